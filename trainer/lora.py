"""Low-rank adapters instead of all weights: put on before a training, merged and saved after it.

By default they go on the linear layers of the text decoder, where the guided loss acts. The vision tower, the
projector, the embeddings and the language-model head stay as they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import PreTrainedModel, Trainer

from schemas.config import LoraSettings
from schemas.errors import ConfigError

if TYPE_CHECKING:
    from peft import PeftModel

ADAPTER_FOLDER = "adapter"  # beside the merged model
_WAS_TRAINED = "_avar_trained_before"


def require_peft() -> None:
    """Raises: ConfigError: peft is not installed."""
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "lora needs peft, which is not installed: pip install 'avar[lora]', or train without lora"
        ) from error


def add_adapters(model: PreTrainedModel, settings: LoraSettings, seed: int) -> PeftModel:
    """The model with new adapters, which alone are trained. Its layers are changed in place.

    A new adapter changes no output: its second matrix is zero.

    Args:
        seed: of the first matrices.
    Returns: peft's wrapper; `attention.bare_model` gives the model back, `merge_adapters` ends it.
    Raises: ConfigError: no peft, or targets that the model does not have or that are not its inner layers.
    """
    require_peft()
    from peft import LoraConfig, get_peft_model

    setattr(model, _WAS_TRAINED, [parameter.requires_grad for parameter in model.parameters()])
    targets = _decoder_layers(model) if settings.targets == "all-linear" else list(settings.targets)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  peft divides it by the rank, whole or not
        lora_dropout=settings.dropout,
        target_modules=targets,
        task_type="CAUSAL_LM",
    )
    _refuse_outer_layers(model, targets)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            wrapped: Any = get_peft_model(model, config)
        except ValueError as error:  # no such modules
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"lora.targets: {line}") from error
    return wrapped


def finish_adapters(trainer: Trainer, wrapped: PeftModel, model: PreTrainedModel, folder: str | Path) -> None:
    """Save the adapters by themselves and merge them. Every process must call it; the main one writes."""
    if trainer.is_world_process_zero():
        save_adapter(wrapped, folder)
    merge_adapters(wrapped, model)


def merge_adapters(wrapped: PeftModel, model: PreTrainedModel) -> None:
    """Add the adapters to the weights of `model`, which is then as it was before `add_adapters`."""
    wrapped.merge_and_unload()
    for parameter, trained in zip(model.parameters(), getattr(model, _WAS_TRAINED), strict=True):
        parameter.requires_grad_(trained)
    delattr(model, _WAS_TRAINED)
    model.__dict__.pop("peft_config", None)
    model.disable_input_require_grads()


def save_adapter(wrapped: PeftModel, folder: str | Path) -> Path:
    """Write the adapters by themselves, in peft's format, into `folder`/adapter.

    Returns: that folder.
    """
    path = Path(folder) / ADAPTER_FOLDER
    wrapped.save_pretrained(str(path))
    return path


def refuse_adapters(trainer: Trainer) -> None:
    """Raises: ConfigError: each process holds only pieces of the weights, so that nothing can be merged."""
    kind = trainer.accelerator.distributed_type.value
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        raise ConfigError(
            f"lora: adapters are merged into whole weights, and {kind} shards them: launch several "
            "processes without sharding (multi_gpu.yaml), or train all weights"
        )


def _decoder_layers(model: PreTrainedModel) -> str:
    """A pattern of peft's for every linear layer of the text decoder."""
    decoder = model.get_decoder()
    prefix = next((name for name, module in model.named_modules() if module is decoder), "")
    if not prefix or decoder is None:
        raise ConfigError(
            f"{type(model).__name__}: its text decoder cannot be told from the rest: name the modules in "
            "lora.targets"
        )
    linear = {
        name.rpartition(".")[2] for name, module in decoder.named_modules() if isinstance(module, nn.Linear)
    }
    return rf"{re.escape(prefix)}\..*\.({'|'.join(sorted(map(re.escape, linear)))})"


def _refuse_outer_layers(model: PreTrainedModel, targets: str | list[str]) -> None:
    """TRL reads the head's weight past an adapter, and embeddings are tied to the head in many models."""
    if isinstance(targets, str):
        return
    outer = {
        name
        for name, module in model.named_modules()
        if module in (model.get_input_embeddings(), model.get_output_embeddings())
    }
    for target in targets:
        if any(name == target or name.endswith(f".{target}") for name in outer):
            raise ConfigError(
                f"lora.targets: {target} is the embedding or the language-model head, which take no "
                "adapter here: leave it out"
            )
