"""TRL's SFT trainer with the attention-guided loss, and its control; both say where the model looks.

The masses come from the very forward pass that the language-model loss comes from; a step without masses
is an error, never plain SFT. B rows, S tokens.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor
from trl.trainer.sft_trainer import SFTTrainer

from schemas.config import GuidedLossSettings
from schemas.errors import AttentionError, ConfigError, SpanError
from trainer.attention import (
    full_attention_layers,
    prepare,
    prepared,
    run_recorded,
    start_recording,
    still,
)
from trainer.data import REGION_LABELS, RegionCollator
from trainer.diagnostics import gradient_norms, refuse_sharded, region_shares
from trainer.focus import effective_image_tokens
from trainer.losses import GuidedParts, attention_guided_loss
from trainer.measuring import MeasuringTrainer
from trainer.recorder import Recorder
from trainer.regions import Regions

_U_AND_T = "user+response"


class _RegionTrainer(MeasuringTrainer, SFTTrainer):
    """What both arms share: regions in every batch, and when attention is read."""

    def __init__(
        self, *args: Any, diagnostics_every: int, layers: Collection[int] | None, **keywords: Any
    ) -> None:
        super().__init__(*args, **keywords)
        if self.get_sp_size() == 1:
            # TRL divides by the tokens of the whole step itself. Left at what the model says (Qwen2.5-VL and
            # many more: False), each micro-batch of each process would weigh the same, however many tokens
            # it has, and the loss would depend on how a step's rows are dealt out.
            self.model_accepts_loss_kwargs = True
        self.diagnostics_every = diagnostics_every
        if diagnostics_every:
            kind = self.accelerator.distributed_type.value
            refuse_sharded(kind, self.bare_model.parameters(), ["train.diagnostics_every"])
        self.layers = full_attention_layers(self.bare_model) if layers is None else tuple(layers)

    def _collate_regions(self) -> None:
        if not self.layers:
            raise AttentionError(
                f"{type(self.bare_model).__name__}: every layer has a sliding window, which does not see the "
                "whole prompt: name the layers to guide or to read"
            )
        processor: Any = self.processing_class
        self.data_collator: Any = RegionCollator(self.data_collator, processor)

    def _take_regions(self, inputs: dict[str, Any]) -> Regions:
        labels_BS = inputs.pop(REGION_LABELS, None)
        if labels_BS is None:
            raise SpanError(
                f"the batch has no {REGION_LABELS!r}: the attention of {type(self).__name__} is measured on "
                "RegionCollator's batches"
            )
        return Regions.from_labels(labels_BS)

    def _is_diagnostic(self) -> bool:
        """True in the first step and in every `diagnostics_every`-th one."""
        step = self.state.global_step + 1
        every = self.diagnostics_every
        return self._training and every > 0 and (step == 1 or step % every == 0)

    def _note_attention(self, recorder: Recorder, inputs: Mapping[str, Any], regions: Regions) -> None:
        """Shares of U and T from a recording of both, and the effective number of image tokens of U."""
        shares = region_shares(recorder.masses, recorder.visible, regions)
        for name, share in shares.items():
            self.figures.add_mean(f"{name}_image_share", share.image, share.rows)
            self.figures.add_mean(f"{name}_system_share", share.system, share.rows)
        with still(self.bare_model), prepared(self.bare_model):
            tokens = effective_image_tokens(self.bare_model, inputs, regions, "user", self.layers)
        self.figures.add_mean("effective_image_tokens", tokens, shares["user"].pairs)


class ControlSFTTrainer(_RegionTrainer):
    """TRL's SFTTrainer: its steps are plain SFT. Now and then it says where the model looks.

    Args:
        diagnostics_every: steps between two readings, each two more forward passes without a gradient; 0:
            never.
        layers: layers that are read, by default those without a sliding window.
    Raises: AttentionError: readings are wanted of a model that cannot be recorded.
        ConfigError: readings are wanted of sharded parameters.
    """

    def __init__(
        self, *args: Any, diagnostics_every: int = 0, layers: Collection[int] | None = None, **keywords: Any
    ) -> None:
        super().__init__(*args, diagnostics_every=diagnostics_every, layers=layers, **keywords)
        if not diagnostics_every:
            return
        try:
            with prepared(self.bare_model):
                self._collate_regions()
        except AttentionError as error:
            raise AttentionError(f"{error}; plain SFT alone: set train.diagnostics_every=0") from error

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        if self.diagnostics_every:
            regions = self._take_regions(inputs)
            if self._is_diagnostic():
                self._note_attention(self._look(inputs, regions), inputs, regions)
        return super().compute_loss(
            model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
        )

    def _look(self, inputs: Mapping[str, Any], regions: Regions) -> Recorder:
        model = self.bare_model
        with still(model), prepared(model):
            recorder = start_recording(model, regions, layers=self.layers, queries=regions.select(_U_AND_T))
            run_recorded(model, inputs, recorder)
        return recorder


class GuidedSFTTrainer(_RegionTrainer):
    """TRL's SFTTrainer with alpha * L_enhance + beta * L_suppress added to its loss.

    Logs `loss_lm`, `enhance`, `suppress`, `image_share`, `system_share` (of the guided queries) and what was
    left out at every step; on diagnostic steps also the shares of U and T, the effective number of image
    tokens, and the norm of each weighted term's gradient beside the language-model term's.

    Args:
        guided: weights, form and queries of the objective.
        guided_layers: layers it acts on, by default those without a sliding window.
        diagnostics_every: steps between two diagnostic ones, the first step being one; 0: never.
    Raises: AttentionError: the model cannot be recorded, or a step recorded nothing.
        ConfigError: diagnostics are wanted of sharded parameters or offloaded activations.
    """

    def __init__(
        self,
        *args: Any,
        guided: GuidedLossSettings,
        guided_layers: Collection[int] | None = None,
        diagnostics_every: int = 0,
        **keywords: Any,
    ) -> None:
        super().__init__(*args, diagnostics_every=diagnostics_every, layers=guided_layers, **keywords)
        arguments: Any = self.args
        if diagnostics_every and arguments.activation_offloading:
            raise ConfigError(
                "activation_offloading keeps no activation for each term's own gradient: turn it off, or set "
                "train.diagnostics_every=0"
            )
        if arguments.label_smoothing_factor or self.compute_loss_func is not None:
            raise ConfigError(
                "label_smoothing_factor and compute_loss_func make TRL run two forward passes a step, of "
                "which one can be recorded: use neither with the guided loss"
            )
        prepare(self.bare_model)
        self.guided = guided
        self._step_of_norms = -1
        self._collate_regions()

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        regions = self._take_regions(inputs)
        diagnostic = self._is_diagnostic()
        queries_BS = regions.select(_U_AND_T if diagnostic else self.guided.queries)
        # In evaluation TRL runs a second pass, for the logits alone.
        recorder = start_recording(
            self.bare_model, regions, layers=self.layers, queries=queries_BS, later_passes="ignore"
        )
        result = super().compute_loss(
            model,
            inputs | recorder.keywords,
            return_outputs=return_outputs,
            num_items_in_batch=num_items_in_batch,
        )
        recorder.check()
        loss_lm, outputs = result if return_outputs else (result, None)
        term, parts = self._term(recorder, regions)
        # TRL's loss is then already divided by the tokens of all accumulated micro-batches.
        steps = self.current_gradient_accumulation_steps if num_items_in_batch is not None else 1
        self._note_loss(loss_lm, inputs["labels"], num_items_in_batch)
        self._note_parts(parts)
        if diagnostic:
            self._note_attention(recorder, inputs, regions)
            self._note_norms(loss_lm * steps, parts)
        loss = loss_lm + term.to(loss_lm.device) / steps
        return (loss, outputs) if return_outputs else loss

    def _term(self, recorder: Recorder, regions: Regions) -> tuple[Tensor, GuidedParts]:
        return attention_guided_loss(
            recorder.masses,
            regions,
            self.guided.alpha,
            self.guided.beta,
            **self.guided.model_dump(exclude={"alpha", "beta"}),
        )

    def _note_loss(self, loss_lm: Tensor, labels_BS: Tensor, items: Tensor | int | None) -> None:
        """Loss per response token of all processes' rows, whatever TRL has divided its loss by."""
        tokens = (labels_BS[:, 1:] != -100).sum()
        total = loss_lm.detach() * (tokens if items is None else items)
        if items is not None and self.args.average_tokens_across_devices:
            total = total / (self.accelerator.num_processes // self.get_tp_size())
        self.figures.add_sum("loss_lm", total, tokens)

    def _note_parts(self, parts: GuidedParts) -> None:
        rows = parts.sequences
        self.figures.add_mean("enhance", parts.enhance.detach(), rows)
        self.figures.add_mean("suppress", parts.suppress.detach(), rows)
        self.figures.add_mean("image_share", parts.image_share, rows - parts.without_image)
        self.figures.add_mean("system_share", parts.system_share, rows - parts.without_system)
        for name in ("sequences", "without_queries", "without_image", "without_system"):
            self.figures.add_count(name, getattr(parts, name))

    def _note_norms(self, loss_lm: Tensor, parts: GuidedParts) -> None:
        """Gradient norms of the weighted terms on a step's first micro-batch, all processes together."""
        if self._step_of_norms == self.state.global_step:
            return
        self._step_of_norms = self.state.global_step
        terms = {"lm": loss_lm}
        terms |= {"enhance": self.guided.alpha * parts.enhance} if self.guided.alpha else {}
        terms |= {"suppress": self.guided.beta * parts.suppress} if self.guided.beta else {}
        norms = gradient_norms(terms, self.bare_model.parameters(), self._mean_over_processes)
        norms = {"enhance": 0.0, "suppress": 0.0} | norms
        for name, norm in norms.items():
            self.figures.add_mean(f"grad_norm_{name}", norm)
            if name != "lm" and norms["lm"] > 0:
                self.figures.add_mean(f"grad_ratio_{name}", norm / norms["lm"])

    def _mean_over_processes(self, gradient: Tensor) -> Tensor:
        return self._sum_over_processes(gradient) / self.accelerator.num_processes
