"""Tiny classifiers with random weights, one for each kind of tokenizer that Assay reads; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    BertConfig,
    DebertaConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    FalconConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    OPTConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    RobertaConfig,
)

from assay.classifier import Classifier
from assay.prompted import PromptedClassifier

ENCODERS = ("bert", "roberta", "distilbert", "electra", "albert", "deberta_v1", "deberta", "modernbert")
DECODERS = ("gpt2", "opt", "llama", "qwen2", "falcon")
ARCHITECTURES = (*ENCODERS, *DECODERS)

CORPUS = (
    "the film is a warm and funny story about an unbelievable friendship .",
    "a dull , lifeless script that never finds its feet .",
    "two men are playing a game of football in the park .",
    "nobody is outside because it rains all day long .",
    "how do i learn to cook a good meal at home ?",
    "what is the best way of learning how to cook ?",
    "an old woman reads her newspaper while the children sleep .",
    "this movie was not as good as the first one , but still enjoyable !",
    "performances are uniformly terrific , unforgettable and touching .",
    "one of the worst and most painfully boring films of the year .",
)
WORDS = tuple(dict.fromkeys(word for line in CORPUS for word in line.split()))
LETTERS = tuple(sorted(set("".join(WORDS))))
# Vocabularies are written out, not trained: training breaks ties differently in each run. Long words fall into pieces.
WHOLE_WORDS = tuple(word for word in WORDS if 1 < len(word) <= 8)
PIECES = ("un", "able", "ly", "form", "getta", "news", "paper", "friend", "ship")


def word_piece_tokenizer() -> PreTrainedTokenizerFast:
    """BERT's kind: lower case, pieces marked with ##, [CLS] and [SEP] around the texts, segment ids."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    inner = [f"##{piece}" for piece in (*LETTERS, *PIECES)]
    vocabulary = dict.fromkeys([*special, *LETTERS, *WHOLE_WORDS, *PIECES, *inner])
    tokenizer = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = _two_segments(tokenizer)
    return _wrap(tokenizer, *special, model_input_names=["input_ids", "token_type_ids", "attention_mask"])


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """RoBERTa's kind: byte-level BPE where a token carries the space before it, and </s></s> between two texts."""
    tokenizer = _byte_level(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")), add_prefix_space=False
    )
    return _wrap(
        tokenizer, "<pad>", "<unk>", "<s>", "</s>", "<mask>", model_input_names=["input_ids", "attention_mask"]
    )


def unigram_tokenizer() -> PreTrainedTokenizerFast:
    """SentencePiece's kind, as ALBERT and DeBERTa use it: a token may be nothing but the mark of a space."""
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
    scores = dict.fromkeys(special, 0.0)
    scores |= dict.fromkeys(("▁", *LETTERS), -8.0)
    scores |= dict.fromkeys(PIECES, -10.0)
    scores |= {f"▁{word}": -9.0 for word in WHOLE_WORDS}
    tokenizer = Tokenizer(models.Unigram(list(scores.items()), unk_id=1))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(special)
    tokenizer.post_processor = _two_segments(tokenizer)
    return _wrap(tokenizer, *special, model_input_names=["input_ids", "token_type_ids", "attention_mask"])


def decoder_tokenizer() -> PreTrainedTokenizerFast:
    """GPT-2's kind: no special tokens around the text, no mask token; unknown and padding are the end of text."""
    end = "<|endoftext|>"
    tokenizer = _byte_level([end])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=end,
        bos_token=end,
        eos_token=end,
        pad_token=end,
        model_max_length=512,
        model_input_names=["input_ids", "attention_mask"],
    )


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "bert": word_piece_tokenizer,
    "roberta": byte_level_tokenizer,
    "distilbert": word_piece_tokenizer,
    "electra": word_piece_tokenizer,
    "albert": unigram_tokenizer,
    "deberta_v1": byte_level_tokenizer,
    "deberta": unigram_tokenizer,
    "modernbert": byte_level_tokenizer,
    "gpt2": decoder_tokenizer,
    "opt": decoder_tokenizer,
    "llama": decoder_tokenizer,
    "qwen2": decoder_tokenizer,
    "falcon": decoder_tokenizer,
}


def tiny_model(
    architecture: str = "bert",
    num_labels: int = 2,
    seed: int = 0,
    head: Any = AutoModelForSequenceClassification,
    **settings: Any,
) -> tuple[Any, Any]:
    """A transformers model of two layers, width 32 and four heads with random weights, and its tokenizer.

    The weights are large enough that every word matters. `settings` go to the configuration. Global random state is
    left as it was.
    """
    tokenizer = TOKENIZERS[architecture]()
    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "num_labels": num_labels,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.3,
    }
    encoder = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 512,
    }
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    grouped = {**encoder, "num_key_value_heads": 2}
    configs: dict[str, Callable[[], Any]] = {
        "bert": lambda: BertConfig(**{**shared, **encoder, **settings}),
        # RoBERTa counts positions from its padding id + 1.
        "roberta": lambda: RobertaConfig(
            **{
                **shared,
                **encoder,
                "max_position_embeddings": 514,
                "type_vocab_size": 1,
                **ends,
                **settings,
            }
        ),
        "distilbert": lambda: DistilBertConfig(
            **{**shared, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, **settings}
        ),
        "electra": lambda: ElectraConfig(**{**shared, **encoder, "embedding_size": 16, **settings}),
        "albert": lambda: AlbertConfig(**{**shared, **encoder, "embedding_size": 16, **settings}),
        "deberta_v1": lambda: DebertaConfig(
            **{
                **shared,
                **encoder,
                "type_vocab_size": 0,
                "relative_attention": True,
                "max_relative_positions": 32,
                "pos_att_type": ["c2p", "p2c"],
                "position_biased_input": False,
                **settings,
            }
        ),
        "deberta": lambda: DebertaV2Config(
            **{
                **shared,
                **encoder,
                "type_vocab_size": 2,
                "relative_attention": True,
                "position_buckets": 32,
                "pos_att_type": ["p2c", "c2p"],
                "share_att_key": True,
                "norm_rel_ebd": "layer_norm",
                **settings,
            }
        ),
        "gpt2": lambda: GPT2Config(
            **{
                **shared,
                "n_embd": 32,
                "n_layer": 2,
                "n_head": 4,
                "n_positions": 512,
                **ends,
                **settings,
            }
        ),
        # A window of eight tokens, so that the local layers differ from the global one.
        "modernbert": lambda: ModernBertConfig(
            **{
                **shared,
                **encoder,
                **ends,
                "cls_token_id": tokenizer.cls_token_id,
                "sep_token_id": tokenizer.sep_token_id,
                "global_attn_every_n_layers": 2,
                "local_attention": 8,
                **settings,
            }
        ),
        "opt": lambda: OPTConfig(
            **{
                **shared,
                **ends,
                "hidden_size": 32,
                "word_embed_proj_dim": 32,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "ffn_dim": 64,
                "max_position_embeddings": 512,
                "init_std": 0.3,
                **settings,
            }
        ),
        "llama": lambda: LlamaConfig(**{**shared, **grouped, **ends, **settings}),
        "qwen2": lambda: Qwen2Config(**{**shared, **grouped, **ends, **settings}),
        "falcon": lambda: FalconConfig(**{**shared, **encoder, **ends, "ffn_hidden_size": 64, **settings}),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = head.from_config(configs[architecture]())
    return model.eval(), tokenizer


@cache
def tiny_classifier(architecture: str = "bert", num_labels: int = 2, seed: int = 0) -> Classifier:
    """A `Classifier` over `tiny_model`. The same object is handed out each time: leave it as it is."""
    model, tokenizer = tiny_model(architecture, num_labels, seed)
    return Classifier(model, tokenizer, f"tiny-{architecture}")


@cache
def tiny_prompted(
    architecture: str = "gpt2",
    template: str = "read : {text} so it is",
    words: tuple[str, ...] = (" good", " dull"),
) -> PromptedClassifier:
    """A prompted causal language model with a class `LABEL_<number>` for each word; leave it as it is."""
    model, tokenizer = tiny_model(architecture, head=AutoModelForCausalLM)
    labels = {f"LABEL_{number}": word for number, word in enumerate(words)}
    return PromptedClassifier(model, tokenizer, template, labels, f"prompted-{architecture}")


def _byte_level(special: list[str]) -> Tokenizer:
    vocabulary = dict.fromkeys([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])
    merges: dict[tuple[str, str], None] = {}
    for word in (*PIECES, *(f"Ġ{word}" for word in WHOLE_WORDS)):
        for end in range(1, len(word)):
            merges[word[:end], word[end]] = None
            vocabulary[word[: end + 1]] = None
    ids = {piece: index for index, piece in enumerate(vocabulary)}
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    return tokenizer


def _two_segments(tokenizer: Tokenizer) -> processors.TemplateProcessing:
    return processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")],
    )


def _wrap(
    tokenizer: Tokenizer, padding: str, unknown: str, start: str, end: str, mask: str, model_input_names: list[str]
) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=padding,
        unk_token=unknown,
        cls_token=start,
        bos_token=start,
        sep_token=end,
        eos_token=end,
        mask_token=mask,
        model_max_length=512,
        model_input_names=model_input_names,
    )
