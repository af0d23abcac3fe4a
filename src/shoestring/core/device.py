"""Device: where a network runs, and what is really executed there, as data with sources."""

import hashlib
from dataclasses import asdict, dataclass

RUNS, NO_EFFECT, STORED_ONLY, SLOWER, WRONG = "runs", "no effect", "stored only", "slower", "wrong"
REFUSED = "refused"


@dataclass(frozen=True)
class Capability:
    """One entry of the capability contract: what `runtime` does with `feature`. `verdict`: runs, no effect (executed
    at dense speed), stored only (smaller, not faster), slower, wrong, refused (such a graph is not loaded). `needs`:
    instruction sets of which one must be present for this entry to apply; `lacks`: those that must all be absent."""

    runtime: str
    feature: str
    verdict: str
    note: str
    source: str
    needs: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()

    def applies(self, isa: tuple[str, ...]) -> bool:
        return (not self.needs or any(name in isa for name in self.needs)) and not any(n in isa for n in self.lacks)


@dataclass(frozen=True)
class Device:
    """`isa`: instruction sets that matter to us, as the processor reports them. `capabilities`: the entries of the
    contract that apply to this runtime on this processor."""

    processor: str
    isa: tuple[str, ...]
    cores: int
    threads: int
    runtime: str
    version: str
    capabilities: tuple[Capability, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that change when a measured cost may have changed."""
        told = repr((self.processor, self.isa, self.cores, self.threads, self.runtime, self.version))
        return hashlib.sha256(told.encode()).hexdigest()[:12]

    def verdict(self, feature: str) -> Capability | None:
        """What this runtime does with `feature`, when the contract says."""
        return next((entry for entry in self.capabilities if entry.feature == feature), None)

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "fingerprint": self.fingerprint}
