"""The registry: each experiment once, made of networks that it has."""

from lensdet import experiments
from lensdet.chapters import thesis
from lensdet.network.checkpoints import SELECTORS
from lensdet.parameters import LOSSES


def test_every_experiment_has_a_loss_or_known_member_networks():
    for name, experiment in experiments.EXPERIMENTS.items():
        assert experiment.name == name
        if experiment.kind in ("network", "segmented network"):
            assert experiment.losses == [experiment.loss] and experiment.loss in LOSSES and not experiment.members
            assert set(experiment.checkpoint.values()) <= set(SELECTORS)
        else:
            assert experiment.size > 0 and set(experiment.members) <= set(experiments.NETWORKS)
            assert set(experiment.losses) <= set(LOSSES) and not (experiment.loss or experiment.checkpoint)
    assert experiments.ENSEMBLES["NM_3"].losses == ["bce", "f1", "fbeta"]
    assert experiments.ENSEMBLES["IDE_6"].losses == sorted(LOSSES)


def test_rows_of_the_thesis_tables_equal_the_registered_experiments():
    tables = thesis.TABLE_5_1, thesis.TABLE_5_2, thesis.TABLE_5_3
    kinds = experiments.NETWORKS, experiments.ENSEMBLES, experiments.SEGMENTED
    for table, own in zip(tables, kinds, strict=True):
        assert list(table) == list(own)
    assert experiments.INPUT_DEPENDENT == ("IDE_6", "IDE_3")


def test_baseline_names_give_kind_and_size():
    kinds = {"mean of 6": ("mean", 6), "oracle of 3": ("oracle", 3), "3 runs of F_1 Soft loss": ("same loss", 3),
             "single runs of Binary Cross Entropy": ("same loss", 1)}  # fmt: skip
    for name, (kind, size) in kinds.items():
        assert (experiments.EXPERIMENTS[name].kind, experiments.EXPERIMENTS[name].size) == (kind, size)
    assert experiments.same_loss("F_1 Soft loss", 3) in kinds and experiments.baseline("mean", 6) in kinds
