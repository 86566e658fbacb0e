"""The part of a config that says which data to train and validate on."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mano_trainers.config.strict import Strict, Weight

Format = Literal["freihand", "ho3d", "dexycb"]
VIEWPOINTS = ("egocentric", "third_person")


class DataSetConfig(Strict):
    """One data set of a mixture."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]
    """What the curriculum and `val/<name>/...` metrics call it."""
    root: str
    """As `data.root`."""
    format: Format = "freihand"
    """As `data.format`."""

    @property
    def may_have_masks(self) -> bool:
        """Whether the set has masks of hands, or may have some because it is not on this machine."""
        root = Path(self.root).expanduser()
        on_disk = self.root != "embedded" and root.is_dir()
        return self.format == "freihand" and (not on_disk or (root / "training" / "mask").is_dir())


class CurriculumStage(Strict):
    """A part of training with its own mixture."""

    until_epoch: Annotated[int, Field(ge=1)] | None = None
    """Last epoch of the stage. Not needed for the last stage, which lasts to the end whatever this says."""
    weights: Annotated[dict[str, Weight], Field(min_length=1)]
    """Share of each set or viewpoint tag (`egocentric`, `third_person`) named, relative to the others; if others of its
    kind are named, what is not named is left out. The number of images per epoch does not change."""

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if not any(self.weights.values()):
            raise ValueError("nothing to show: at least one weight must be above 0")
        return self


class DataConfig(Strict):
    root: str = "embedded"
    """Folder of a data set, or `embedded`: the licence-free rendered set, created on first use."""
    format: Format = "freihand"
    """Layout of the files in `root`."""
    hand: str = "embedded"
    """The hand that the labels belong to: `embedded` for rendered sets; for real ones the path of MANO_RIGHT.pkl.
    Left hands in DexYCB need MANO_LEFT.pkl beside it."""
    sets: Annotated[tuple[DataSetConfig, ...], Field(strict=False)] = ()
    """Sets of a mixture, instead of `root` and `format`."""
    curriculum: Annotated[tuple[CurriculumStage, ...], Field(strict=False)] = ()
    """Stages in the order of training; empty: every pose of every set once per epoch."""
    validate_on: Literal["held_out", "evaluation"] = "held_out"
    """`held_out`: a share of the poses, as `val_fraction` says; `evaluation`: FreiHAND's evaluation split, after
    training on all poses of the training split."""
    dexycb_split: Literal["s0", "s1", "s2", "s3"] | None = None
    """For DexYCB sets, the published split instead of `val_fraction`: train on its training part, and validate on its
    validation part (`held_out`) or its test part (`evaluation`). Needs the whole of DexYCB."""
    embedded_count: Annotated[int, Field(ge=8)] = 3000
    """Poses in the embedded set (each has 4 image versions). Ignored for other roots."""
    embedded_seed: Annotated[int, Field(ge=0)] = 0
    """Seed of the embedded set. Ignored for other roots."""
    image_size: Annotated[int, Field(ge=16, le=1024)] = 64
    """Side of the square input image, in pixels."""
    crop: Annotated[float, Field(ge=1, le=5)] | None = None
    """Side of the square that is cut out around a hand, as a multiple of the longer side of its joints' bounding box.
    `null`: FreiHAND's pictures are used whole, and the factor is 1.5 for HO-3D's and DexYCB's, which show a whole
    scene. In FreiHAND only trained poses are cut by their labels; validated ones, and those of `pred.json`, are cut to
    a square in the middle of the picture, of the median size of the trained ones."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the poses held out for validation. The split is by pose, never by image version."""
    versions: Literal["all", "one"] = "one"
    """`all`: an epoch shows every training pose in all image versions; `one`: in one, drawn at random each epoch."""

    @property
    def all_sets(self) -> tuple[DataSetConfig, ...]:
        """The sets of the mixture, or the one set of `root`, called `data`."""
        return self.sets or (DataSetConfig(name="data", root=self.root, format=self.format),)

    @model_validator(mode="after")
    def _sets_fit(self) -> Self:
        if self.sets and (self.root, self.format) != ("embedded", "freihand"):
            raise ValueError("`root` and `format` describe a single set; with `sets`, give them there")
        names = [item.name for item in self.sets]
        if len(set(names)) < len(names) or set(names) & set(VIEWPOINTS):
            raise ValueError(f"names of sets must differ from each other and from {', '.join(VIEWPOINTS)}")
        for item in self.all_sets:
            if item.root == "embedded" and (item.format, self.hand) != ("freihand", "embedded"):
                raise ValueError("root `embedded` is in FreiHAND's layout and shows the embedded hand")
            if self.validate_on == "evaluation" and item.format != "freihand" and not self._is_split(item):
                raise ValueError(f"format {item.format} has no labelled evaluation split; use `held_out`")
        if self.dexycb_split is not None and not any(item.format == "dexycb" for item in self.all_sets):
            raise ValueError("`dexycb_split` is for sets in format dexycb, and there is none")
        return self

    def _is_split(self, item: DataSetConfig) -> bool:
        return item.format == "dexycb" and self.dexycb_split is not None

    @model_validator(mode="after")
    def _stages_fit(self) -> Self:
        names = [*(item.name for item in self.sets), *VIEWPOINTS]
        for stage in self.curriculum:
            for name in stage.weights:
                if name not in names:
                    raise ValueError(f"curriculum names {name}, which is not one of {', '.join(names)}")
        ends = [stage.until_epoch for stage in self.curriculum[:-1]]
        if None in ends or ends != sorted(set(ends), key=lambda end: end or 0):
            raise ValueError("until_epoch must be given for every stage but the last, and increase from stage to stage")
        return self
