"""How sure an answer is: the error that comes from having only so many scenarios."""

from .comparing import Comparison as Comparison
from .comparing import compare as compare
from .dependence import BatchMeans as BatchMeans
from .dependence import NeweyWest as NeweyWest
from .gap import OptimalityGap as OptimalityGap
from .gap import optimality_gap as optimality_gap
from .needed import Report as Report
from .needed import ScenariosNeeded as ScenariosNeeded
from .needed import report as report
from .needed import scenarios_needed as scenarios_needed
from .out_of_sample import OutOfSample as OutOfSample
from .out_of_sample import evaluate_on as evaluate_on
from .sampling import SamplingError as SamplingError
from .sampling import sampling_error as sampling_error
from .stability import WeightStability as WeightStability
from .stability import weight_stability as weight_stability
