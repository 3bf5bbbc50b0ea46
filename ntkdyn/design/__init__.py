"""Design before deployment: many settings of a spec predicted in bulk, and the best of them.

axes      what is varied, and what it takes
bulk      many systems predicted at once
study     a spec varied along axes, as one record; settings of it trained
targets   which settings reach a target, at what cost
"""

from ntkdyn.design.axes import Axis as Axis, axis as axis
from ntkdyn.design.bulk import predict_many as predict_many
from ntkdyn.design.study import confirmed as confirmed, predicted as predicted
from ntkdyn.design.targets import (
    Clock as Clock,
    Target as Target,
    ranked as ranked,
    reached as reached,
    said as said,
    target as target,
)
