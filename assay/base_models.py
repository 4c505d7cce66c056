"""The models that training starts from: one from the hub or a folder, or a tiny BERT made for the task."""

from __future__ import annotations

import string
from abc import ABC, abstractmethod
from collections import Counter
from typing import TYPE_CHECKING

from assay.errors import AssayError
from assay.tasks import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ALPHABET = 1000  # most characters that a vocabulary of a tiny BERT is built from
FAINT = 0.01  # standard deviation of the position embeddings of a tiny BERT at first


class BaseModel(ABC):
    """A classifier before it is trained."""

    @abstractmethod
    def create(self, task: Task) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """A model with one output for each of the task's labels, named after them, and its tokenizer.

        What is random in its weights follows torch's global random state.
        """


class Pretrained(BaseModel):
    """A model from the Hugging Face hub or from a local folder, with a new classification head where it has none.

    Args:
        path: name on the hub or path of a folder.
        revision: branch, tag or commit on the hub.
    """

    def __init__(self, path: str, revision: str | None = None) -> None:
        if not isinstance(path, str):
            raise AssayError("base.path is not set; it is the name of a model on the hub or the path of a folder.")
        self.path = path
        self.revision = revision

    def create(self, task: Task) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Load the model and its tokenizer; a tokenizer without a padding token pads with its end token."""
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self.path, revision=self.revision)
            model = AutoModelForSequenceClassification.from_pretrained(
                self.path, revision=self.revision, ignore_mismatched_sizes=True, **_names(task)
            )
        except (OSError, ValueError) as error:
            raise AssayError(f"base.path {self.path!r} cannot be loaded as a text classifier: {error}") from error
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id
        return model, tokenizer


class TinyBert(BaseModel):
    """A small BERT with random weights and a WordPiece vocabulary of its own, learned from the task's training texts.

    Args:
        layers: number of layers.
        width: size of the hidden states, a multiple of `heads`.
        heads: attention heads of a layer.
        intermediate: width between the two parts of a layer's feed-forward network.
        vocabulary: largest size of the vocabulary.
        positions: longest input in tokens.
        spread: standard deviation of the first weights. BERT's own 0.02 is for a width of 768: at a width of 64 nearly
            nothing passes a layer at first, and words of two texts take many epochs to find each other.
        dropout: share of activations that are dropped in training, from 0 (included) to 1 (excluded).
    """

    def __init__(
        self,
        layers: int = 2,
        width: int = 64,
        heads: int = 2,
        intermediate: int = 128,
        vocabulary: int = 2000,
        positions: int = 128,
        spread: float = 0.2,
        dropout: float = 0.0,
    ) -> None:
        counts = {"layers": layers, "heads": heads, "intermediate": intermediate, "vocabulary": vocabulary}
        for name, value in {**counts, "positions": positions}.items():
            if value <= 0:
                raise AssayError(f"base.{name} is {value}; it is above 0.")
        if width <= 0 or width % heads:
            raise AssayError(f"base.width is {width}; it is a multiple of base.heads, {heads}.")
        if spread <= 0:
            raise AssayError(f"base.spread is {spread}; it is above 0.")
        if not 0 <= dropout < 1:
            raise AssayError(f"base.dropout is {dropout}; it is at least 0 and below 1.")
        self.layers = layers
        self.width = width
        self.heads = heads
        self.intermediate = intermediate
        self.vocabulary = vocabulary
        self.positions = positions
        self.spread = spread
        self.dropout = dropout

    def create(self, task: Task) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        """Learn the vocabulary from the texts of `task`, the training split, and draw the weights."""
        import torch
        from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

        tokenizer = BertTokenizer(vocab=self._learn_vocabulary(task), model_max_length=self.positions)
        config = BertConfig(
            vocab_size=len(tokenizer),
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.intermediate,
            max_position_embeddings=self.positions,
            initializer_range=self.spread,
            hidden_dropout_prob=self.dropout,
            attention_probs_dropout_prob=self.dropout,
            pad_token_id=tokenizer.pad_token_id,
            **_names(task),
        )
        model = BertForSequenceClassification(config)
        # Positions that start faint leave the words in the foreground: two texts are compared after half the steps.
        torch.nn.init.normal_(model.bert.embeddings.position_embeddings.weight, std=FAINT)
        return model, tokenizer

    def _learn_vocabulary(self, task: Task) -> dict[str, int]:
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        texts = [tokenizer.normalizer.normalize_str(text) for example in task for text in example.text]
        counts = Counter(character for text in texts for character in text if not character.isspace())
        common = sorted(counts, key=lambda character: (-counts[character], character))[:ALPHABET]
        alphabet = sorted({*common, *string.ascii_lowercase, *string.digits})
        trainer = trainers.WordPieceTrainer(
            vocab_size=self.vocabulary,
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            # The trainer would number the characters inside words in a random order, and break ties between pieces by
            # those numbers. Given first, as if they were special, they have fixed ones: one text, one vocabulary.
            special_tokens=[*SPECIAL_TOKENS, *(f"##{character}" for character in alphabet)],
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        vocabulary: dict[str, int] = tokenizer.get_vocab()
        return dict(sorted(vocabulary.items(), key=lambda item: item[1]))


def _names(task: Task) -> dict[str, dict[int, str] | dict[str, int]]:
    """The names of the labels, as a model's configuration holds them."""
    return {
        "id2label": dict(enumerate(task.labels)),
        "label2id": {label: number for number, label in enumerate(task.labels)},
    }
