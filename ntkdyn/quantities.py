"""Quantities: what the variables of a record are called in words, and what they are measured in.

The unit "1" is that of pure numbers: shares, factors, counts, and what has the unit of the targets,
which a record does not know.
"""

from __future__ import annotations

import xarray as xr

QUANTITIES = {
    "round": "rounds done",
    "agent": "agent",
    "agent_name": "name of the agent, where agents have names",
    "class_name": "name of the class",
    "output_name": "name of the target that the output is for",
    "heard_agent": "agent that is heard",
    "other_agent": "agent compared with",
    "layer": "layer of the network",
    "head": "head of the network",
    "time": "time of the gradient flow, step size times rounds",
    "split": "set that the point belongs to",
    "owner": "agent that owns the point, -1 for none",
    "label": "label of the point",
    "row": "place of the point among all, where not all are measured",
    "points_owned": "training points of the agent",
    "class_counts": "training points of the agent by class",
    "targets": "target outputs",
    "mixing": "mixing weights W",
    "perron": "weight that averaging by W gives to the agent: its left Perron vector",
    "agent_weight": "weight of the agent's loss in the objective",
    "weighted_loss": "mean of all agents' training losses, by their weights, at the agent's model",
    "outputs": "outputs of the agents' models",
    "initial_outputs": "outputs at the start",
    "train_loss": "mean loss over the agent's own training points",
    "global_loss": "mean of all agents' training losses at the agent's model",
    "test_loss": "mean loss over the test points",
    "train_accuracy": "accuracy on the agent's own training points",
    "test_accuracy": "accuracy on the test points",
    "train_r2": "coefficient of determination R^2 on the agent's own training points",
    "test_r2": "coefficient of determination R^2 on the test points",
    "consensus_global_loss": "mean of all agents' training losses at the mean model",
    "consensus_test_loss": "mean loss of the mean model over the test points",
    "consensus_test_accuracy": "accuracy of the mean model on the test points",
    "consensus_test_r2": "coefficient of determination R^2 of the mean model on the test points",
    "shared_accuracy": "accuracy of the head on the test points",
    "private_accuracy": "accuracy of the head on test points weighed like the agent's own classes",
    "consensus_distance": "distance of the agent's parameters from the mean of all",
    "distance": "distance between the parameters of two agents",
    "displacement": "distance of the agent's parameters from the start",
    "layer_displacement": "distance of a layer's parameters from the start",
    "kernel_drift": "change of the agent's kernel since the start, relative",
    "label_alignment": "alignment of the agent's kernel with the targets",
    "floats_sent": "numbers of 32 bits sent by the agent in all rounds before",
    "bits_sent": "bits sent by the agent in all rounds before",
    "parameters": "kept entries of the agents' parameters",
    "initial_parameters": "kept entries of the parameters at the start",
    "parameter_round": "round in which parameters were kept",
    "parameter_agent": "agent whose parameters were kept",
    "parameter_layer": "layer that the entry belongs to",
    "parameter_tensor": "tensor that the entry belongs to",
    "parameter_entry": "index of the entry in its flattened tensor",
    "parameter_weight": "entries of the tensor that the kept one stands for",
    "error_estimate": "estimated numerical error of the displacement, relative",
    "reached_by": "way in which the round was reached",
    "trust_gap": "gap estimated from the network at the predicted parameters",
    "anchor": "round at whose predicted mean the networks are linearized anew",
    "segment_error": "distance of the linearization from the networks where its segment ends",
    "true_segment_error": "gap that a segment added, share of the distance travelled by its end",
    "sweep": "sweeps of correction",
    "certified_error": "proven bound of the distance of the real outputs from the predicted ones",
    "certified_share": "that bound as a share of the distance travelled",
    "certified_by_sweep": "proven bound of the distance of the outputs, after so many sweeps",
    "certified_parameters": "proven bound of the distance of all agents' parameters",
    "linear_error": "distance of the linear prediction's outputs from the predicted ones",
    "sweeps_kept": "sweeps of correction that are kept in a segment",
    "sampled_round": "round in which the defect of the linearization was looked at",
    "defect": "how wrong the gradients are that the sweep has followed, relative",
    "gap": "distance of predicted from observed outputs, share of the distance travelled",
    "common_gap": "distance of the predicted from the observed mean agent, share of that travelled",
    "deviation_gap": "gap of the agent's deviation from the mean agent, relative to that",
    "deviation_gap_of_all": "gap of all agents' deviations from the mean agent, relative to those",
    "deviation_share": "deviation from the mean agent, share of the distance travelled",
    "predicted_deviation": "predicted deviation from the mean agent, along the last one seen",
    "observed_deviation": "observed deviation from the mean agent, along the last one seen",
    "explanation": "what was predicted in place of what was run",
    "null_kind": "what is wrong in the explanation",
    "null_gap": "gap of the explanation",
    "null_common_gap": "gap of the explanation's mean agent",
    "null_deviation_gap": "deviation gap of the explanation",
    "null_deviation_gap_of_all": "deviation gap of the explanation, of all agents together",
    "null_deviation": "deviation of the explanation from its mean agent, along the last one seen",
    "skill": "by how much the prediction is nearer, as a share of the larger gap",
    "train_gap": "gap on the training points",
    "test_gap": "gap on the test points",
    "parameter_gap": "gap of the kept parameters",
    "parameter_common_gap": "gap of the mean agent's kept parameters",
    "parameter_deviation_gap": "deviation gap of the kept parameters",
    "parameter_deviation_gap_of_all": "deviation gap of all agents' kept parameters together",
    "parameter_deviation_share": "deviation of the kept parameters, share of the way travelled",
    "predicted_rate": "factor per round of the predicted training loss",
    "observed_rate": "factor per round of the observed training loss",
    "arithmetic": "gap from the precision of training",
    "linearization": "gap from the network's curvature",
    "minibatch_noise": "gap from the batches that were drawn",
    "discretization": "gap from rounds in place of the gradient flow",
    "finite_width": "gap from the network's kernel in place of that of infinite width",
    "movement": "distance of the parameters from the start, relative to their size",
    "step_size_taken": "step size of the run",
    "width": "width of the hidden layers",
    "depth": "number of hidden layers",
    "step_size": "step size",
    "seed": "seed of the start",
    "kernel": "kernel",
    "estimate": "estimate, and the ends of its 95 % interval",
    "bias": "distance of the limit from the centralized solution, relative",
    "residual": "outputs minus targets at the owner",
    "eigenvalue_real": "real part of the eigenvalue",
    "eigenvalue_imag": "imaginary part of the eigenvalue",
    "eigenvalue_imaginary": "imaginary part of the eigenvalue",
    "time_constant": "rounds in which the mode falls by the factor e",
    "mean_outputs": "mean of the outputs",
    "std_outputs": "standard deviation of the outputs",
    "quantile": "quantile",
}
"""variable -> what it is"""

SUFFIXES = {
    "_difference": ", predicted minus observed",
    "_error": ", standard error",
    "_low": ", lower end of the 95 % interval",
    "_high": ", upper end of the 95 % interval",
    "_of_mean": ", of the mean model",
    "_mean": ", mean",
    "_std": ", standard deviation",
    "_band": ", quantiles",
    "_slope": ", slope in log-log coordinates",
}
"""end of a variable's name -> what it adds"""


OF_DEVIATION = "deviation_"
"""beginning of the name of a variable that is about what is an agent's own"""


def described(record: xr.Dataset) -> xr.Dataset:
    """The record with the attributes `long_name` and `units` at all variables that are known."""
    for name, variable in record.variables.items():
        if meaning := long_name(str(name)):
            variable.attrs |= {"long_name": meaning, "units": "1"}
    return record


def long_name(name: str) -> str:
    """What the variable of that name is; empty where it is not known."""
    if name in QUANTITIES:
        return QUANTITIES[name]
    if name.startswith(OF_DEVIATION) and (base := long_name(name.removeprefix(OF_DEVIATION))):
        return f"{base}, of the agent's deviation from the mean agent"
    for suffix, words in SUFFIXES.items():
        if name.endswith(suffix) and (base := long_name(name.removesuffix(suffix))):
            return base + words
    return ""
