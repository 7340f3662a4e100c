"""The names that `solver.py` and `batch.py` use, from `loop.py` and `state.py`."""

from .loop import first as first
from .loop import first_of_batch as first_of_batch
from .loop import several as several
from .loop import several_of_batch as several_of_batch
from .state import ACCEPTABLE as ACCEPTABLE
from .state import DIVERGING as DIVERGING
from .state import LIMIT as LIMIT
from .state import NO_RESTORATION as NO_RESTORATION
from .state import NOT_FINITE as NOT_FINITE
from .state import RUNNING as RUNNING
from .state import SOLVED as SOLVED
from .state import TINY as TINY
from .state import Options as Options
