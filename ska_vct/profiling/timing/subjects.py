"""All benchmark subjects by their name on the command line."""

from .criterion import CriterionSubject
from .deform import DeformSubject
from .flow import FlowSubject
from .inference import InferenceSubject
from .loader import LoaderSubject
from .metrics import MetricsSubject
from .motion import MotionSubject
from .predict import PredictSubject
from .subject import Subject
from .training import TrainingSubject

SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for subject in (
        TrainingSubject(),
        InferenceSubject(),
        MotionSubject(),
        CriterionSubject(),
        DeformSubject(),
        LoaderSubject(),
        FlowSubject(),
        MetricsSubject(),
        PredictSubject(),
    )
}
