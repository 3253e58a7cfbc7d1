"""Judging: is an optimizer sound, what is it like, and is it better than others that are tuned by the same budget?

`judge(my_optimizer)` returns a `Judgement`, and `text` writes it as one screen. What gdlab's own optimizers achieve is
stored in `gdlab/baselines`.
"""

from gdlab.judging.judgement import AGAINST, Judgement, judge
from gdlab.judging.report import as_json, sentence, text
from gdlab.judging.tiers import TIERS

__all__ = ["AGAINST", "TIERS", "Judgement", "as_json", "judge", "sentence", "text"]
