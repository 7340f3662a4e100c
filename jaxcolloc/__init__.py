"""placeholder"""

from ._data import Trajectory as Trajectory
from ._grid import Grid as Grid
from ._guess import Guess as Guess
from ._guess import guess as guess
from ._ipopt import Ipopt as Ipopt
from ._loss import PseudoHuber as PseudoHuber
from ._loss import squared_error as squared_error
from ._nlp import NLP as NLP
from ._path import Path as Path
from ._scheme import Chebyshev as Chebyshev
from ._scheme import GaussLegendre as GaussLegendre
from ._scheme import Lobatto as Lobatto
from ._scheme import Radau as Radau
from ._simulate import simulate as simulate
from ._smooth import resample as resample
from ._solution import RESULTS as RESULTS
from ._solution import Solution as Solution
from ._solution import SolveError as SolveError
from ._solution import Step as Step
from ._solution import Trace as Trace
from ._solve import solve as solve
from ._transcribe import transcribe as transcribe
from ._weights import xavier as xavier
