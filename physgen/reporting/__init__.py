"""Ink: the metrics of a surrogate or of two datasets, or a posterior, as one HTML file.

``style`` is what all figures share; ``figures``, ``predictive``, ``uniform``, ``corner`` and
``vectors`` draw, one function a figure; ``page`` sets the
figures, the tables and the words of a surrogate, ``models`` those of several, ``comparison`` those
of two datasets, ``responses`` those of datasets of several sizes, ``calibration`` those of
posteriors that were put to the test, ``posterior`` those of a posterior file or of several,
``restoration`` those of x given y, ``latents`` those of latents, ``explore`` the page with
sliders, ``training`` those of a checkpoint; ``conclusions`` has what each says first, and ``view``
is how a check says what it has to show. Nothing here computes a quality: a number that is not in
``metrics.json`` or in the checkpoint is not in the report.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from contextlib import contextmanager

from physgen.errors import UsageError

__all__ = ["framed", "ink"]


@contextmanager
def ink() -> Iterator[None]:
    """Say in one line what to install, where what draws is missing.

    Raises:
        UsageError: matplotlib or jinja2 is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] not in {"matplotlib", "jinja2"}:
            raise
        raise UsageError(
            "report needs matplotlib and jinja2: pip install 'physgen[report]'"
        ) from error


def framed(page: str, height: int = 640) -> str:
    """A whole page inside another one, such as a notebook: neither touches the other's style.

    Its scripts run, as its policy allows, but see nothing of the other.
    """
    style = f"width: 100%; height: {height}px; border: 0"
    return (
        f'<iframe srcdoc="{html.escape(page)}" style="{style}" sandbox="allow-scripts"></iframe>'
    )
