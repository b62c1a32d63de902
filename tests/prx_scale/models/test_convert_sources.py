"""What weights come in: every kind of file, every way it can be wrong, and nothing left of an import that failed."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from prx_scale.errors import InputError
from prx_scale.models.convert.headers import read_header
from prx_scale.models.convert.importing import import_weights
from prx_scale.models.convert.layouts import STABILITY_PREFIX
from prx_scale.models.convert.writing import shards, whole_folder, write_safetensors
from prx_scale.models.embeddings import PositionGrid
from prx_scale.startweights import read_info
from tests.prx_scale.models import convert_models as cm

OF = cm.sizes(2)
TABLE = PositionGrid(side=8, image=8, base=8).table(OF.hidden)
State = dict[str, torch.Tensor]


def state(layout: str = "diffusers") -> State:
    return cm.random_theirs(layout, OF, TABLE)


def hash_of(path: Path, tmp_path: Path) -> str:
    import_weights(path, tmp_path / "out", overwrite=True)
    return read_info(tmp_path / "out").hash


def test_every_kind_of_file_gives_the_same_weights(tmp_path: Path) -> None:
    tensors = state()
    expected = hash_of(cm.save(tensors, tmp_path / "a.safetensors"), tmp_path)
    for name in ("a.pt", "a.pth", "a.bin", "a.ckpt"):
        torch.save(tensors, tmp_path / name)
        assert hash_of(tmp_path / name, tmp_path) == expected
    torch.save({"state_dict": tensors, "step": 3}, tmp_path / "nested.ckpt")
    assert hash_of(tmp_path / "nested.ckpt", tmp_path) == expected
    torch.save(tensors, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert hash_of(tmp_path / "old.pt", tmp_path) == expected
    pipeline = tmp_path / "pipeline"
    cm.diffusers_model(tensors, OF, 8).save_pretrained(pipeline / "transformer", max_shard_size="1MB")
    (pipeline / "model_index.json").write_text("{}")
    index = pipeline / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    assert len(list(index.parent.glob("*.safetensors"))) > 1
    for path in (pipeline, pipeline / "transformer", index):
        assert hash_of(path, tmp_path) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types_are_written_as_float32_and_told(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {name: value.to(dtype) for name, value in state().items()}
    done = import_weights(cm.save(tensors, tmp_path / "a.safetensors"), tmp_path / "out")
    assert done.dtypes == (str(dtype).removeprefix("torch."),)
    assert done.info.positions.kind == "sin-cos"
    assert {each.dtype for each in read_header(tmp_path / "out" / "model.safetensors").values()} == {"F32"}
    # Sinusoids are computed exactly, however they were rounded.
    assert (done.positions_off > 1e-5) == (dtype != torch.float64)
    upcast = {name: value.float() for name, value in tensors.items()} | {
        "pos_embed.pos_embed": TABLE.flatten(0, 1)[None]
    }
    assert done.info.hash == hash_of(cm.save(upcast, tmp_path / "b.safetensors"), tmp_path)


def test_a_whole_checkpoint_of_stability_is_read_without_its_other_parts(tmp_path: Path) -> None:
    tensors = {STABILITY_PREFIX + name: value for name, value in state("stability").items()}
    tensors |= {"first_stage_model.decoder.conv_in.weight": torch.zeros(2), "text_encoders.x": torch.zeros(2)}
    done = import_weights(cm.save(tensors, tmp_path / "a.safetensors"), tmp_path / "out")
    assert done.found.others == 2
    assert done.info.hash == hash_of(cm.save(state("stability"), tmp_path / "b.safetensors"), tmp_path)
    assert done.info.source["sha256"].keys() == {"a.safetensors"}


def without(name: str) -> Callable[[State], None]:
    def change(tensors: State) -> None:
        del tensors[name]

    return change


def having(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Callable[[State], None]:
    return lambda tensors: tensors.update({name: torch.zeros(shape, dtype=dtype)})


def not_finite(tensors: State) -> None:
    tensors["proj_out.bias"][3] = float("nan")


BLOCK = "transformer_blocks.1.attn"
WRONG = [
    (without("proj_out.bias"), r"a\.safetensors: proj_out\.bias: missing"),
    (without("pos_embed.pos_embed"), r"pos_embed\.pos_embed: missing"),
    (without("pos_embed.proj.weight"), r"pos_embed\.proj\.weight: missing"),
    (without(f"{BLOCK}.norm_k.weight"), r"transformer_blocks\.1\.attn\.norm_k\.weight: missing"),
    (having("proj_out.weight", 12, 128), r"proj_out\.weight: of shape \[12, 128\], not \[16, 128\]"),
    (having("pos_embed.proj.weight", 128, 16), r"proj\.weight: of shape \[128, 16\], not of 4 axes"),
    (having("pos_embed.pos_embed", 1, 63, 128), r"pos_embed: of shape \[1, 63, 128\], not \[1, 49, 128\]"),
    (having(f"{BLOCK}.norm_q.weight", 128), r"norm_q\.weight: of shape \[128\], not \[64\]"),
    (having("extra", 1), r"extra: unexpected"),
    (having("transformer_blocks.0.attn2.to_q.weight", 128, 128), r"attn2\.to_q\.weight: dual attention"),
    (having("transformer_blocks.999999999.ff.net.2.bias", 128), r"transformer_blocks\.\d+\..*(missing|shape)"),
    (having("transformer.x.lora_A.weight", 4, 4), r"lora_A\.weight: a LoRA's change of weights"),
    (having("proj_out.bias", 16, dtype=torch.int8), r"proj_out\.bias: of type I8; only float64, float32"),
    (not_finite, r"final\.linear\.bias: has weights that are not finite"),
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be_represented_is_named_and_nothing_is_written(
    change: Callable[[State], None], message: str, tmp_path: Path
) -> None:
    tensors = state()
    change(tensors)
    file = cm.save(tensors, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match=message):
        import_weights(file, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors"]


class Harmful:
    """Would write a file when unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.file, "unpickled"))


def damaged_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Files that are wrong, each with what is to be said of it."""
    whole = cm.save(state(), folder / "whole.safetensors").read_bytes()
    made: dict[str, tuple[Path, str]] = {}

    def file(name: str, content: bytes, message: str) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        made[name] = (folder / name, message)
        return folder / name

    file("empty.safetensors", b"", "not a safetensors file, or cut short")
    file("cut.safetensors", whole[:-5], "it was cut short")
    file("header.safetensors", whole[:100], "not a safetensors file, or cut short")
    file("text.safetensors", b"no weights here at all", "not a safetensors file")
    file("length.safetensors", (2**60).to_bytes(8, "little") + whole[8:], "not a safetensors file")
    file("array.safetensors", (2).to_bytes(8, "little") + b"[]", "damaged \\(its header is not a JSON object\\)")
    file("garbage.pt", b"\x00" * 50, r"garbage\.pt: (refused|not a file that torch saved)")
    file("a.gguf", b"x", "not a kind of file that weights come in")
    file("harmful.pt", pickle.dumps({"a": Harmful(folder / "unpickled")}), r"harmful\.pt: (refused|not a file)")
    torch.save({"state_dict": Harmful(folder / "unpickled")}, folder / "harmful.ckpt")
    made["harmful.ckpt"] = (folder / "harmful.ckpt", "refused: it holds more than tensors, and nothing is unpickled")
    torch.save([1, 2], folder / "list.pt")
    made["list.pt"] = (folder / "list.pt", "holds list, not a table of tensors")
    torch.save({"a": 3}, folder / "number.pt")
    made["number.pt"] = (folder / "number.pt", "a: a int, not a tensor")
    save_file({"model.layers.0.weight": torch.zeros(2)}, folder / "other.safetensors")
    made["other.safetensors"] = (folder / "other.safetensors", "no SD3 transformer: .* found model.layers.0.weight")
    outside = json.dumps({"weight_map": {"a": "../whole.safetensors"}}).encode()
    file("out.safetensors.index.json", outside, "'../whole.safetensors' is not a file beside it")
    absent = json.dumps({"weight_map": {"a": "whole.safetensors"}}).encode()
    file("absent.safetensors.index.json", absent, "a is not in whole.safetensors")
    missing = json.dumps({"weight_map": {"a": "none.safetensors"}}).encode()
    file("missing.safetensors.index.json", missing, r"none\.safetensors: cannot be read")
    file("list.safetensors.index.json", b"[]", "not an index of safetensors files")
    file("pipe/model_index.json", b"{}", "a pipeline without a transformer/ folder")
    made["pipe/model_index.json"] = (folder / "pipe", made["pipe/model_index.json"][1])
    config = b'{"_class_name": "FluxTransformer2DModel"}'
    file("flux/config.json", config, "_class_name: 'FluxTransformer2DModel' cannot be represented")
    made["flux/config.json"] = (folder / "flux", made["flux/config.json"][1])
    file("heads/config.json", b'{"attention_head_dim": 128}', "attention_head_dim: 128 cannot be represented")
    made["heads/config.json"] = (folder / "heads", made["heads/config.json"][1])
    file("fp16/diffusion_pytorch_model.fp16.safetensors", whole, "name one of diffusion_pytorch_model.fp16")
    made["fp16/diffusion_pytorch_model.fp16.safetensors"] = (
        folder / "fp16",
        made["fp16/diffusion_pytorch_model.fp16.safetensors"][1],
    )
    made["nothing"] = (folder / "nothing", "no such file or folder")
    return made


def test_damaged_and_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "runs" / "out"
    folder.mkdir()
    for path, message in damaged_files(folder).values():
        with pytest.raises(InputError, match=message) as error:
            import_weights(path, out)
        assert str(folder) in str(error.value)
        assert not list(out.parent.glob("*")) and not list(out.parent.glob(".*"))
    assert not (folder / "unpickled").exists()


def test_a_folder_that_is_there_is_only_replaced_when_it_is_ours(tmp_path: Path) -> None:
    file, out = cm.save(state(), tmp_path / "a.safetensors"), tmp_path / "out"
    out.mkdir()
    import_weights(file, out)
    before = (out / "weights.json").read_bytes()
    with pytest.raises(InputError, match="is not empty; --overwrite replaces it"):
        import_weights(file, out)
    with pytest.raises(InputError, match="already has weights of our own"):
        import_weights(out, tmp_path / "again")
    cm.save({"x": torch.zeros(1)}, tmp_path / "bad.safetensors")
    with pytest.raises(InputError):
        import_weights(tmp_path / "bad.safetensors", out, overwrite=True)
    assert (out / "weights.json").read_bytes() == before
    import_weights(file, out, overwrite=True)
    assert (out / "weights.json").read_bytes() == before
    other = tmp_path / "precious"
    other.mkdir()
    (other / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"has no weights\.json, so it was not written by this verb"):
        import_weights(file, other, overwrite=True)
    with pytest.raises(InputError, match="is a file"):
        import_weights(file, file)
    assert (other / "thesis.tex").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "bad.safetensors", "out", "precious"]


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "out", overwrite=False, marker="m") as folder:
        (folder / "half").write_text("x")
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_one_tensor_at_a_time(tmp_path: Path) -> None:
    written: list[int] = []

    def read(name: str) -> torch.Tensor:
        written.append((tmp_path / "w").stat().st_size)
        return torch.full((250_000,), float(name))

    shapes = {str(number): (250_000,) for number in range(4)}
    digests = write_safetensors(tmp_path / "w", shapes, read)
    # The first three, of a megabyte each, are on the disk when the fourth is read.
    assert written[-1] > 2_900_000
    assert len(set(digests.values())) == 4
    assert {name: each.shape for name, each in read_header(tmp_path / "w").items()} == shapes
    assert shards(shapes, 2_100_000) == [["0", "1"], ["2", "3"]]
    assert shards(shapes, 10) == [["0"], ["1"], ["2"], ["3"]]
