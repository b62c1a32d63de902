"""The tables of a study file that a run has: their keys, with defaults and bounds.

Each class is a table of study.toml and each field a key of it. Bounds stand beside the field in its metadata and are
checked by `prx_scale.tables`, which knows the file and can name the key.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from prx_scale.errors import InputError
from prx_scale.tables import bounded

HEAD_DIM = 64
"""Width of one attention head: hidden size is 64 x depth, with as many heads as the depth (SD3 paper, section 5.3)."""
LATENT_DOWNSAMPLING = 8
"""Pixels along one side of a latent of SD3's autoencoder."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """[model]: an MM-DiT of `depth` joint blocks; unless `width` says otherwise, of hidden size 64 x depth."""

    depth: int = field(metadata={"low": 1})
    width: int = bounded(0, low=0)
    """Hidden size, a multiple of 64; 0 is 64 x depth."""
    patch: int = bounded(2, low=1)
    """Pixels (or latents) along one side of a patch."""
    qk_norm: bool = True
    """RMS-norm of queries and keys, per head."""
    weight_sets: Literal[2, 3] = 2
    """2: one for image and one for text tokens; 3: text tokens of two encoders have one each."""
    positions: Literal["sin-cos", "learned"] = "sin-cos"
    """Fixed sinusoids of a patch's place, or a trained table that starts from them."""
    position_grid: int = bounded(0, low=0)
    """Patches along one side of the table that positions of any aspect ratio are cropped from; 0 is the image's own."""
    position_base: int = bounded(0, low=0)
    """Patches along a side at which neighbours are 1 apart (16 for SD3, trained first at 256 pixels); 0 is the image's
    own."""
    size_conditioning: bool = False
    """The model is told the size of the original image, the corner of the cut and the size that it was brought to."""
    mup_base_width: int = bounded(0, low=0)
    """Width at which the hyperparameters were tuned, for muP (see prx_scale.models.mup); 0 is off."""
    mup_base_depth: int = bounded(0, low=0)
    """Depth at which they were tuned, for depth-muP; 0 is off."""

    @property
    def hidden(self) -> int:
        """Width of the residual stream."""
        return self.width or HEAD_DIM * self.depth

    @property
    def heads(self) -> int:
        """Attention heads of width 64."""
        return self.hidden // HEAD_DIM


@dataclass(frozen=True, kw_only=True)
class Data:
    """[data]: what is trained on."""

    dataset: Literal["shapes", "random", "store", "images"] = "shapes"
    """shapes: drawn images. random: normal noise in the sizes of SD3's latents and text states, which teaches nothing
    and is there to measure speed and memory. store: latents and text states that `prx-scale encode` wrote.
    images: captioned images, encoded while training."""
    image_size: int = bounded(16, low=16)
    """Pixels along one side."""
    encoders: Literal[1, 2] = 1
    """Text encoders of the shapes: 1 whose tokens know their neighbours, or 2, with one of single words before it."""
    seed: int = bounded(0, low=0)
    """Names the stream of images; not the seed of a run, so that all runs of a study see the same images."""
    long_captions: float = bounded(0.5, low=0, high=1)
    """Share of training samples that come with their long caption instead of the short one."""
    path: str = field(default="", metadata={"place": True})
    """Folder of the store, or images as `prx-scale encode` takes them; resolved against the study file."""
    content: str = ""
    """Hash of what is in the store, or of all that decides what images become; filled in where it is left out."""
    filter: str = field(default="", metadata={"place": True})
    """Folder of a filter's result, which says what of the data is trained on, and how often."""
    filter_hash: str = ""
    """Hash of what it keeps, and with what weights; filled in where it is left out."""
    heldout: float = bounded(0.01, low=0, high=0.5)
    """Share of the samples that are for validation alone."""
    sizes: tuple[str, ...] = field(default=(), metadata={"place": True})
    """What the model must know of the data, in the words of `prx_scale.storesizes`; filled in."""

    @property
    def encoded(self) -> bool:
        """Whether encoders make what is trained on, before training or meanwhile; then `sizes` says their sizes."""
        return self.dataset in ("store", "images")

    @property
    def downsampling(self) -> int:
        """Pixels along one side of one value that the model is fed: 8 where those are latents of SD3's autoencoder."""
        if self.encoded:
            return int(self.said("downsampling")[0][0])
        return LATENT_DOWNSAMPLING if self.dataset == "random" else 1

    def said(self, name: str) -> list[list[str]]:
        """The words behind a name in each line of `sizes` that begins with it.

        Raises:
            InputError: there is none.
        """
        lines = [line.split() for line in self.sizes]
        found = [words[1:] for words in lines if words and words[0] == name]
        if not found:
            raise InputError(f"[data] sizes: says nothing of {name}; leave it out, it is filled in")
        return found


@dataclass(frozen=True, kw_only=True)
class Objective:
    """[objective]: the noise path, the density of timesteps, and what the condition loses in training."""

    path: Literal["rectified-flow"] = "rectified-flow"
    timesteps: Literal["logit-normal", "uniform"] = "logit-normal"
    location: float = 0.0
    """m of the logit-normal density: below 0 favours data, above 0 favours noise."""
    scale: float = bounded(1.0, low=1e-3)
    """s of the logit-normal density."""
    shift: float = bounded(1.0, low=1e-3)
    """alpha of t' = alpha t / (1 + (alpha - 1) t), in training and sampling; above 1 moves towards noise."""
    shift_base: int = bounded(0, low=0)
    """Pixels along a side at which no shift is due: alpha is also multiplied by image_size / shift_base; 0 is off."""
    caption_dropout: float = bounded(0.1, low=0, high=1)
    """Share of samples trained without a condition, for guidance."""
    encoder_dropout: float = bounded(0.0, low=0, high=1)
    """Share of samples in which a text encoder's states become zero, for each encoder by itself (SD3: 0.464)."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """[training]: the optimiser, and its rate: linear warm-up, then constant but for changes and a decay at the end."""

    steps: int = field(metadata={"low": 1})
    batch: int = bounded(64, low=1)
    """Images a step, over all processes."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon: Muon for the matrices that blocks apply to tokens, AdamW for all else."""
    lr: float = bounded(1e-3, low=0)
    warmup: int = bounded(50, low=0)
    """Steps of linear warm-up."""
    lr_change_steps: tuple[int, ...] = ()
    """Steps after which the rate changes, ascending."""
    lr_change_factors: tuple[float, ...] = ()
    """The rate from then on, as a multiple of `lr`, one for each of these steps."""
    decay_ratio: float = bounded(0.0, low=0, high=1)
    """Share of the steps, at the end, over which the rate decays; 0 is none."""
    decay_type: Literal["linear", "sqrt", "cosine"] = "linear"
    min_lr_factor: float = bounded(0.0, low=0, high=1)
    """Where the decay ends, as a multiple of the rate before it."""
    beta1: float = bounded(0.9, low=0, high=1)
    beta2: float = bounded(0.95, low=0, high=1)
    eps: float = bounded(1e-8, low=0)
    weight_decay: float = bounded(0.0, low=0)
    muon_lr: float = bounded(0.0, low=0)
    """Rate of Muon's matrices; 0 is `lr`."""
    muon_momentum: float = bounded(0.95, low=0, high=1)
    """Nesterov."""
    muon_adjust: Literal["match_rms_adamw", "original"] = "match_rms_adamw"
    """Muon's update is scaled by 0.2 sqrt(larger side), to the root mean square of AdamW's, or by
    sqrt(max(1, rows / columns))."""
    max_norm: float = bounded(1.0, low=0)
    """The gradient is scaled down to this norm."""
    ema_decay: float = bounded(0.99, low=0, high=1)
    """Decay a step of the averaged weights; the average is shorter at the start (see prx_scale.training.ema)."""
    precision: Literal["float32", "bfloat16", "float8"] = "float32"
    """Of the matrix products; weights and optimiser state are always float32. float8: those of the blocks, on GPUs that
    have it, and bfloat16 for the rest."""
    seed: int = bounded(0, low=0)
    """Of initial weights, noise, timesteps and caption dropout."""
    start_from: str = field(default="", metadata={"place": True})
    """Folder of weights to start from, as import-weights writes it; resolved against the study file."""
    start_hash: str = ""
    """Content hash of those weights; filled in where it is left out."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """[validation]: loss per equidistant noise level, on the same images and noise at every step of every run."""

    every: int = bounded(100, low=1)
    """Steps between validations; the last step is always validated."""
    images: int = bounded(128, low=1)
    levels: int = bounded(8, low=2)
    """K noise levels t = i/K, i = 1..K; the loss is the mean over all but the last."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """[checkpoint]: TorchTitan checkpoints, to resume from and to evaluate."""

    every: int = bounded(200, low=1)
    keep: int = bounded(10, low=0)
    """How many of the latest stay; 0 keeps all, and 1 is refused, as the latest may be half-written."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """[evaluation]: images sampled from checkpoints, scored with GenEval's rules."""

    prompts_per_task: int = bounded(16, low=1)
    images_per_prompt: int = bounded(2, low=1)
    sampler: Literal["euler"] = "euler"
    steps: int = bounded(20, low=1)
    """Sampler steps."""
    guidance: float = bounded(3.0, low=0)
    """v = v_uncond + guidance (v_cond - v_uncond)."""
    weights: Literal["ema", "raw"] = "ema"
    seed: int = bounded(0, low=0)
    """Of prompts and starting noise, the same for every run."""


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """[parallel]: how a run is spread over processes; by default FSDP2 over all of them."""

    dp_replicate: int = bounded(1, low=1)
    """Groups of processes that hold a full copy of the weights each (HSDP)."""
    dp_shard: int = bounded(-1, low=-1)
    """Processes that share one copy of the weights; -1 takes all that are left."""
    tp: int = bounded(1, low=1)
    """Tensor parallel: processes that share every matrix product; must divide the heads."""
    sequence_parallel: bool = True
    """Under tensor parallel also share the image tokens between products, where their number divides."""
    cp: int = bounded(1, low=1)
    """Context parallel: processes that share the image tokens of every image."""
    reshard: Literal["blocks", "always", "never"] = "blocks"
    """When FSDP2 frees gathered weights after the forward pass: those of all blocks but the last, also the last one's
    and the rest, or none."""
    checkpointing: Literal["none", "selective", "full"] = "none"
    """What the backward pass computes again: nothing, all but costly products, or all within a block."""
    compile: bool = False
    """torch.compile each block."""
    micro_batch: int = bounded(0, low=0)
    """Images a process holds at once; smaller means gradient accumulation, 0 means no accumulation."""


@dataclass(frozen=True, kw_only=True)
class Logging:
    """[logging]: what is written besides the run record."""

    every: int = bounded(10, low=1)
    """Steps between rows of train.jsonl."""
    tensorboard: bool = False
    wandb: bool = False
