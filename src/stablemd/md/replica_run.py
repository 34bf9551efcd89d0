"""The replicas of a running simulation, and the bookkeeping for those that failed."""

from __future__ import annotations

from dataclasses import replace
from time import perf_counter

import torch
from torch import Tensor

from stablemd.md.history import RewindHistory
from stablemd.md.integrators.base import Integrator
from stablemd.md.random_streams import NormalBlocks
from stablemd.md.recording import Recorder
from stablemd.md.result import SimulationResult
from stablemd.md.state import State
from stablemd.potentials.base import SamplingForm
from stablemd.potentials.split_step import SplitStep
from stablemd.stability.detector_set import DetectorSet
from stablemd.system import System


class ReplicaRun:
    """Steps the replicas that still run; keeps what is known of those that do not.

    Args:
        form: evaluator of energies and forces.
        start: the state after ``integrator.init``.
        integrator: the dynamics.
        detectors: what counts as a failure.
        seed: seed of the random streams.
        n_steps: number of steps that will be run.
        rewind_steps: how far to rewind failed replicas, 0 for no rewinding.
        system: the atoms, for the conserved energy.
        record_momenta: keep the momenta of recorded frames.

    Raises:
        SimulationError: the start of a replica that is alive is not finite.
    """

    def __init__(
        self,
        form: SamplingForm,
        start: State,
        integrator: Integrator,
        detectors: DetectorSet,
        seed: int,
        n_steps: int,
        rewind_steps: int,
        system: System,
        *,
        record_momenta: bool = False,
    ) -> None:
        self._form = form
        self._integrator = integrator
        self._detectors = detectors.for_run()
        self._system = system
        self._start_step = start.step
        self._frozen = start
        self._replicas = torch.nonzero(start.alive).flatten()
        self._active = (
            start if len(self._replicas) == start.n_replicas else start.select(self._replicas)
        )
        self._valid = self._active
        self._noise = (
            NormalBlocks(
                seed,
                self._active.replica_ids,
                tuple(start.positions.shape[1:]),
                start.step,
                start.step + n_steps,
            )
            if integrator.needs_noise
            else None
        )
        fits = form.advances and start.cells is None
        self._split_step = integrator.split_step() if fits else None
        self._history = RewindHistory(rewind_steps) if rewind_steps else None
        self._rewound = start
        self._recorder = Recorder(with_momenta=record_momenta)
        self._failed_step = torch.full((start.n_replicas,), -1, dtype=torch.int64)
        self._reasons: list[str | None] = [None] * start.n_replicas
        self._details: list[str | None] = [None] * start.n_replicas
        self._n_evaluations = 0
        self._wall = dict.fromkeys(("model", "noise", "integrate", "detect", "record"), 0.0)

    @property
    def n_active(self) -> int:
        return self._active.n_replicas

    def advance(self, n_steps: int) -> None:
        """Step the running replicas."""
        if not self.n_active:
            return
        if self._split_step is None:
            self._step_by_step(n_steps)
        else:
            self._step_in_form(n_steps, self._split_step)

    def check(self, done: int) -> None:
        """Run the detectors and freeze the replicas that fail."""
        if not self.n_active:
            return
        begin = perf_counter()
        active = self._active
        further = {}
        if "forces" in self._detectors.needs:
            further["forces"] = active.forces
        if "conserved" in self._detectors.needs:
            further["conserved"] = self._integrator.conserved(active, self._system)
        seen = self._detectors.detect(
            active.positions, active.momenta, active.energies, active.cells, **further
        )
        failed = [r for r, bad in enumerate(seen.failed.tolist()) if bad]
        if failed:
            explained = self._detectors.explain(seen, failed)
            for r, (reason, detail) in zip(self._replicas[failed].tolist(), explained, strict=True):
                self._failed_step[r] = done
                self._reasons[r], self._details[r] = reason, detail
            self._freeze(failed, ~seen.failed)
        self._valid = self._active
        if self._history is not None:
            self._history.push(done, self._replicas, self._active)
        self._wall["detect"] += perf_counter() - begin

    def record(self, done: int) -> None:
        """Keep the frames of the replicas that have just passed a check."""
        begin = perf_counter()
        if self.n_active:
            self._recorder.record(done, self._replicas, self._active)
        self._wall["record"] += perf_counter() - begin

    def result(self, n_steps: int) -> SimulationResult:
        end_step = self._start_step + n_steps
        final = replace(self._frozen.scatter(self._replicas, self._active), step=end_step)
        rewound = None
        if self._history is not None:
            everyone = torch.ones_like(final.alive)
            rewound = self._rewound.scatter(self._replicas, self._active)
            rewound = replace(rewound, step=end_step, alive=everyone)
        begin = perf_counter()
        frames = self._recorder.frames(final)
        self._wall["record"] += perf_counter() - begin
        return SimulationResult(
            state=final,
            rewind_state=rewound,
            failed_step=self._failed_step,
            reasons=self._reasons,
            details=self._details,
            frames=frames,
            n_force_evaluations=self._n_evaluations,
            wall_s=self._wall,
        )

    def _step_by_step(self, n_steps: int) -> None:
        """Let the integrator make each step, and call the form for its forces."""
        begin, model_before = perf_counter(), self._wall["model"]
        noise_s = 0.0
        full = self.n_active == self._frozen.n_replicas
        evaluate = _Evaluator(self, padded=not (full or self._form.replica_independent))
        step, noise, active = self._integrator.step, self._noise, self._active
        for _ in range(n_steps):
            if noise is None:
                active = step(active, evaluate, None)
            else:
                t0 = perf_counter()
                draws = noise.at(active.step)
                noise_s += perf_counter() - t0
                active = step(active, evaluate, draws)
        self._active = active
        model_s = self._wall["model"] - model_before
        self._wall["noise"] += noise_s
        self._wall["integrate"] += perf_counter() - begin - noise_s - model_s

    def _step_in_form(self, n_steps: int, split: SplitStep) -> None:
        """Let the form make all steps in as few calls as there are blocks of noise."""
        begin = perf_counter()
        start, index = self._active, self._replicas
        full = self.n_active == self._frozen.n_replicas
        padded = not (full or self._form.replica_independent)
        # Frozen replicas go along without noise, and what becomes of them is dropped.
        batch = self._frozen.scatter(index, start) if padded else start
        positions, momenta, forces = (
            t.clone(memory_format=torch.contiguous_format)
            for t in (batch.positions, batch.momenta, batch.forces)
        )
        energies, done, noise, noise_s, model_s = start.energies, 0, None, 0.0, 0.0
        while done < n_steps:
            t0 = perf_counter()
            size = n_steps - done
            if self._noise is not None:
                noise = self._noise.upcoming(start.step + done, size)
                size = noise.shape[0]
                if padded:
                    everyone = noise.new_zeros(size, *positions.shape)
                    noise = everyone.index_copy_(1, index, noise)
            t1 = perf_counter()
            energies = self._form.advance(positions, momenta, forces, split, size, noise)
            noise_s += t1 - t0
            model_s += perf_counter() - t1
            done += size
        after = replace(
            batch,
            positions=positions,
            momenta=momenta,
            forces=forces,
            energies=energies,
            step=start.step + n_steps,
        )
        self._active = after.select(index) if padded else after
        self._n_evaluations += n_steps * batch.n_replicas
        self._wall["noise"] += noise_s
        self._wall["model"] += model_s
        self._wall["integrate"] += perf_counter() - begin - noise_s - model_s

    def _freeze(self, failed: list[int], keep: Tensor) -> None:
        replicas = self._replicas[failed]
        last = self._valid.select(torch.as_tensor(failed, device=replicas.device))
        self._frozen = self._frozen.scatter(
            replicas, replace(last, alive=torch.zeros_like(last.alive))
        )
        if self._history is not None:
            back = self._history.rewound(replicas) if len(self._history) else last
            self._rewound = self._rewound.scatter(replicas, back)
        self._detectors.keep(keep)
        self._replicas = self._replicas[keep]
        self._active = self._active.select(keep)
        if self._noise is not None:
            self._noise.select(keep)

    def evaluate(
        self, positions: Tensor, cells: Tensor | None, *, padded: bool, stress: bool
    ) -> tuple[Tensor, ...]:
        """Energies, forces and, where asked for, stress of the running replicas.

        With ``padded`` the form sees the full batch, frozen replicas at their
        last valid positions.
        """
        begin = perf_counter()
        index = self._replicas
        if padded:
            positions = self._frozen.positions.index_copy(0, index, positions)
            if cells is not None and self._frozen.cells is not None:
                cells = self._frozen.cells.index_copy(0, index, cells)
        numbers: tuple[Tensor, ...]
        if stress:
            assert cells is not None
            numbers = self._form.with_stress(positions, cells)
        else:
            numbers = self._form(positions, cells)
        numbers = tuple(n.to(torch.float64) for n in numbers)
        self._n_evaluations += len(positions)
        self._wall["model"] += perf_counter() - begin
        return tuple(n[index] for n in numbers) if padded else numbers


class _Evaluator(SamplingForm):
    """The form as an integrator calls it: on the running replicas, timed and counted."""

    def __init__(self, run: ReplicaRun, *, padded: bool) -> None:
        self._run = run
        self._padded = padded

    def __call__(self, positions: Tensor, cells: Tensor | None = None) -> tuple[Tensor, Tensor]:
        energies, forces = self._run.evaluate(positions, cells, padded=self._padded, stress=False)
        return energies, forces

    def with_stress(self, positions: Tensor, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        energies, forces, stress = self._run.evaluate(
            positions, cells, padded=self._padded, stress=True
        )
        return energies, forces, stress
