"""Design before deployment: many settings of a spec predicted in bulk, and the best of them.

axes      what is varied, and what it takes
rounds    affine rounds of many systems, by matrix products
bulk      many systems predicted at once
parts     a study kept as it goes
study     a spec varied along axes, predicted and trained, as one record
derivative    how a predicted loss changes with links' weights and step, and the best of them
targets   which settings reach a target, at what cost
tables    a row per setting, as .csv and .tex
search    the best settings, without following those that cannot be

Examples in docstrings stand on these names, beside those of `ntkdyn` and `ntkdyn.experiment`:

    >>> from ntkdyn import design
    >>> study = design.Study(work, [design.axis("method.step_size=0.1,0.3")], rounds=[0, 4, 8])
    >>> settings = study.predict()
    >>> goal = design.target("mean train_loss <= 3")
"""

from ntkdyn.design.axes import Axis as Axis, axis as axis, of_table as of_table
from ntkdyn.design.bulk import Bulk as Bulk
from ntkdyn.design.derivative import (
    Derivative as Derivative,
    Improved as Improved,
    derivative as derivative,
    improve as improve,
)
from ntkdyn.design.parts import Parts as Parts
from ntkdyn.design.search import (
    Found as Found,
    Goal as Goal,
    record_of as record_of,
    search as search,
)
from ntkdyn.design.study import (
    Study as Study,
    check_any as check_any,
    predicted as predicted,
    varied as varied,
)
from ntkdyn.design.targets import (
    Clock as Clock,
    Target as Target,
    costs as costs,
    ranked as ranked,
    reached as reached,
    said as said,
    target as target,
)
