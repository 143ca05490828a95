"""How an encoder's blocks are laid out: what a figure or a table needs to know of it, without the model."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class EncoderShape:
    """Depth, stages and always-on blocks of an image encoder; blocks are numbered from 0."""

    depth: int  # L
    stage_starts: tuple[int, ...]  # first block of each stage, (0, 2, 8, 44) for Hiera-L; (0,) for a plain ViT
    always_on: tuple[int, ...]  # K

    def stage_of(self, block: int) -> int:
        """The stage that a block belongs to, from 1."""
        return sum(block >= start for start in self.stage_starts)

    def as_dict(self) -> dict:
        """Plain lists and numbers, for JSON; `from_dict` reads them back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: dict) -> "EncoderShape":
        """What `as_dict` gave."""
        return cls(int(content["depth"]), tuple(content["stage_starts"]), tuple(content["always_on"]))
