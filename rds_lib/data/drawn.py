"""How generated clips are numbered and named; for those too who draw none and load no array library."""

DIFFICULTIES = (
    "plain",
    "fast_motion",
    "occlusion",
    "disappearance",
    "scale_change",
    "deformation",
    "appearance_change",
    "distractor",
    "late_entry",
)

# The validation sets share a split, so each counts its clips from another number. The difficulties take turns with that
# number: DAVIS starts with a plain clip, SA-V with an occlusion, YouTube-VOS with objects that enter late.
FIRST_INDEX = {"davis2017": 0, "sav": 1001, "ytvos": 2006, "wide": 3006, "wide_ytvos": 4005, "changing": 5000}
