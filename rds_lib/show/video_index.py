"""The page that leads to the figures of chosen videos: which weights drew them, which videos those had trained on."""

import html
from collections.abc import Mapping

import numpy as np
import pandas as pd

from rds_lib.show.figures import PaperFigure
from rds_lib.show.study import VideoStudy

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff }}
body {{ margin: 1.5rem auto; max-width: 72rem; padding: 0 1rem }} h1 {{ font-size: 1.4rem }} h2 {{ font-size: 1.1rem }}
p {{ max-width: 60rem; overflow-wrap: anywhere }} img {{ max-width: 100% }} code {{ overflow-wrap: anywhere }}
table {{ border-collapse: collapse; display: block; overflow-x: auto; margin: 1rem 0 }}
th, td {{ padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd }}
</style></head><body>
<h1>{title}</h1>
<p>Tracked with SAM2 and with RDS at budget {budget:g} by the weights of profile {profile}. Numbers of figures are the
paper's, where the video is one of its own. J&amp;F is in points, mean over a video's objects. The frames belong to the
data set: this folder tells git to ignore it.</p>
{weights}
{caution}
{videos}
{gallery}
</body></html>
"""


def index_page(
    study: VideoStudy,
    figures: Mapping[int, PaperFigure],
    quality: pd.DataFrame,
    weights: Mapping[str, Mapping[str, str | None]],
) -> str:
    """The page as HTML; its links hold in the folder that the figures are written to.

    Parameters
    ----------
    figures : mapping
        Of ``show.figures.video_figures``.
    quality : DataFrame
        J&F in [0, 1] of every video, the index, under ``SAM2`` and ``RDS``, its columns; NaN where it has no truth.
    weights : mapping
        What was loaded, such as "model": ``file`` and ``sha256`` of each.
    """
    return _PAGE.format(
        title=f"Figures 13 to 25 of the paper on {html.escape(study.dataset)}",
        budget=study.budget,
        profile=html.escape(study.profile),
        weights=_table(
            [{"weights": name, "file": one["file"], "SHA-256": one["sha256"]} for name, one in weights.items()]
        ),
        caution=_caution(study),
        videos=_table([_row(study, name, quality.loc[name]) for name in study.recordings]),
        gallery="\n".join(map(_entry, figures.values())),
    )


def _caution(study):
    names = [html.escape(name) for name in study.recordings if name in study.cautions]
    told = f"Caution: the weights were trained on {', '.join(names)}; what these show is no test of them."
    return f"<p><strong>{told}</strong></p>" if names else ""


def _row(study, name, quality):
    recording, run = study.recordings[name], study.run(name)
    return {
        "video": name,
        "frames": len(recording),
        "objects": len(recording.obj_ids),
        "J&F of SAM2": 100 * quality["SAM2"],
        "J&F of RDS": 100 * quality["RDS"],
        f"blocks of {recording.depth} on routed frames": run.active_blocks if run.is_routed.any() else np.nan,
        "trained the weights": "yes, so it is no test" if name in study.cautions else "",
    }


def _entry(figure):
    title, picture = html.escape(f"Figure {figure.number}: {figure.title}"), f"{figure.name}.{figure.kind}"
    return (
        f'<h2>{title}</h2>\n<p><a href="{figure.name}.html">To explore</a></p>\n<img src="{picture}" alt="{title}" '
        'loading="lazy">'
    )


def _table(rows):
    with pd.option_context("display.max_colwidth", None):
        return pd.DataFrame(rows).to_html(
            index=False, border=0, justify="left", na_rep="–", float_format="{:.1f}".format
        )
