"""A small classifier with random weights, made in code: something to try a method on where no model is at hand."""

from __future__ import annotations

from string import ascii_lowercase

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from assay.classifier import Classifier

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_WORDS = (
    *("the", "a", "film", "is", "was", "and", "not", "very", "story", "actor", "music", "plot", "good", "bad", "great"),
    *(
        "dull",
        "funny",
        "warm",
        "slow",
        "long",
        "first",
        "last",
        "scene",
        "ending",
        "with",
        "without",
        "never",
        "always",
    ),
    *("people", "like", "love", "hate", "makes", "feels", "every", "little", "much", "more", "less", "than"),
)
_PIECES = ("able", "less", "ness", "ing", "ship", "un", "re")


def small_classifier(seed: int = 6) -> Classifier:
    """A BERT of two layers, width 32 and four heads over 40 words, with three classes.

    Its weights are drawn from a wider distribution than BERT's, so that every word matters. Nothing is downloaded, and
    global random state is left as it was.

    Args:
        seed: of the weights; by default one under which each class is predicted for some texts.
    """
    tokenizer = _tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        num_labels=3,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.3,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = BertForSequenceClassification(config)
    return Classifier(network.eval(), tokenizer, "a small BERT with random weights")


def _tokenizer() -> PreTrainedTokenizerFast:
    inner = [f"##{piece}" for piece in (*ascii_lowercase, *_PIECES)]
    vocabulary = dict.fromkeys([*_SPECIAL, *ascii_lowercase, *_WORDS, *inner])
    tokenizer = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )
    padding, unknown, start, end, mask = _SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=padding,
        unk_token=unknown,
        cls_token=start,
        sep_token=end,
        mask_token=mask,
        model_max_length=512,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
