"""`lensdet.study.Study`: whose data it is; what it reads is tested with the tables that are made of it."""

import pytest

from lensdet.parameters import ParameterError
from lensdet.study import Study


def test_changed_parameters_that_decide_no_pixels_keep_the_data(smoke):
    study = Study(smoke, "0123abcd")
    for values in ({"protocol": "code"}, {"runs": 1}, {"segmentation": "text"}, {"learning_rate": 0.1}):
        changed = study.changed(**values)
        assert changed.key == "0123abcd" and study.parameters == smoke
        assert all(getattr(changed.parameters, name) == value for name, value in values.items())


def test_changed_survey_is_other_data(smoke):
    study = Study(smoke, smoke.survey_key())
    for values in ({"data_seed": 99}, {"n_lrg": 60}, {"frozen_size": 12}):
        changed = study.changed(**values)
        assert changed.key == changed.parameters.survey_key() != study.key


def test_changed_parameters_are_checked(smoke):
    with pytest.raises(ParameterError, match="did you mean 'code'"):
        Study(smoke).changed(protocol="cod")
    with pytest.raises(ParameterError, match="unknown parameter 'runz'"):
        Study(smoke).changed(runz=2)
