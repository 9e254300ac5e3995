"""Means, covariances and factor models from returns."""

from .covariances import CovarianceEstimator as CovarianceEstimator
from .covariances import DenoisedCovariance as DenoisedCovariance
from .covariances import ExponentialCovariance as ExponentialCovariance
from .covariances import GerberCovariance as GerberCovariance
from .covariances import LedoitWolf as LedoitWolf
from .covariances import NonlinearShrinkage as NonlinearShrinkage
from .covariances import OracleApproximating as OracleApproximating
from .covariances import SampleCovariance as SampleCovariance
from .covariances import SemiCovariance as SemiCovariance
from .factored import FactorCovariance as FactorCovariance
from .factored import nearest_covariance as nearest_covariance
from .factored import square as square
from .means import BayesStein as BayesStein
from .means import EquilibriumMean as EquilibriumMean
from .means import ExponentialMean as ExponentialMean
from .means import JamesStein as JamesStein
from .means import SampleMean as SampleMean
from .models import RegressionFactors as RegressionFactors
from .models import StatisticalFactors as StatisticalFactors
