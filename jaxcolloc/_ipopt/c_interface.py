"""IPOPT's C interface, called in the library that cyipopt has loaded.

cyipopt copies the values of Jacobian and Hessian to IPOPT one Python object at a time, which
costs more than evaluating them: 2 of 6 ms per iteration on a small problem. This class has the
part of `cyipopt.Problem`'s interface that we use and copies whole arrays instead. The functions
are the ones cyipopt is linked to: a symbol is looked up in an extension module and the libraries
it depends on. Where that fails (or IPOPT is older than 3.14), `load` returns None and cyipopt's
own class is used.

Signatures: IpStdCInterface.h of IPOPT 3.14.
"""

import ctypes
import functools
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


_Index, _Number, _Pointer, _Bool = ctypes.c_int, ctypes.c_double, ctypes.c_void_p, ctypes.c_bool

_Objective = ctypes.CFUNCTYPE(_Bool, _Index, _Pointer, _Bool, _Pointer, _Pointer)
_Gradient = ctypes.CFUNCTYPE(_Bool, _Index, _Pointer, _Bool, _Pointer, _Pointer)
_Constraints = ctypes.CFUNCTYPE(_Bool, _Index, _Pointer, _Bool, _Index, _Pointer, _Pointer)
_Jacobian = ctypes.CFUNCTYPE(
    _Bool, _Index, _Pointer, _Bool, _Index, _Index, _Pointer, _Pointer, _Pointer, _Pointer
)
_Hessian = ctypes.CFUNCTYPE(
    _Bool, _Index, _Pointer, _Bool, _Number, _Index, _Pointer, _Bool, _Index, _Pointer, _Pointer,
    _Pointer, _Pointer,
)  # fmt: skip
_Intermediate = ctypes.CFUNCTYPE(
    _Bool, _Index, _Index, _Number, _Number, _Number, _Number, _Number, _Number, _Number, _Number,
    _Index, _Pointer,
)  # fmt: skip

_MESSAGES = {
    0: "Solve_Succeeded",
    1: "Solved_To_Acceptable_Level",
    2: "Infeasible_Problem_Detected",
    3: "Search_Direction_Becomes_Too_Small",
    4: "Diverging_Iterates",
    5: "User_Requested_Stop",
    6: "Feasible_Point_Found",
    -1: "Maximum_Iterations_Exceeded",
    -2: "Restoration_Failed",
    -3: "Error_In_Step_Computation",
    -4: "Maximum_CpuTime_Exceeded",
    -5: "Maximum_WallTime_Exceeded",
    -10: "Not_Enough_Degrees_Of_Freedom",
    -11: "Invalid_Problem_Definition",
    -12: "Invalid_Option",
    -13: "Invalid_Number_Detected",
    -100: "Unrecoverable_Exception",
    -101: "NonIpopt_Exception_Thrown",
    -102: "Insufficient_Memory",
    -199: "Internal_Error",
}


@functools.cache
def load() -> ctypes.CDLL | None:
    """The library with IPOPT's C functions, or None if it cannot be had this way."""
    import cyipopt

    module = sys.modules.get("ipopt_wrapper") or sys.modules.get("cyipopt.ipopt_wrapper")
    if tuple(cyipopt.IPOPT_VERSION) < (3, 14, 0) or not hasattr(module, "__file__"):
        return None
    try:
        library = ctypes.CDLL(module.__file__)  # type: ignore[union-attr]
        library.CreateIpoptProblem.restype = _Pointer
        library.CreateIpoptProblem.argtypes = [
            _Index, _Pointer, _Pointer, _Index, _Pointer, _Pointer, _Index, _Index, _Index,
            _Objective, _Constraints, _Gradient, _Jacobian, _Hessian,
        ]  # fmt: skip
        library.FreeIpoptProblem.restype = None
        library.FreeIpoptProblem.argtypes = [_Pointer]
        for name, kind in (("Str", ctypes.c_char_p), ("Num", _Number), ("Int", _Index)):
            function = getattr(library, f"AddIpopt{name}Option")
            function.restype = _Bool
            function.argtypes = [_Pointer, ctypes.c_char_p, kind]
        library.SetIntermediateCallback.restype = _Bool
        library.SetIntermediateCallback.argtypes = [_Pointer, _Intermediate]
        library.IpoptSolve.restype = _Index
        library.IpoptSolve.argtypes = [_Pointer] * 8
        library.GetIpoptCurrentIterate.restype = _Bool
        library.GetIpoptCurrentIterate.argtypes = [
            _Pointer, _Bool, _Index, _Pointer, _Pointer, _Pointer, _Index, _Pointer, _Pointer
        ]  # fmt: skip
    except (AttributeError, OSError):
        return None
    return library


class Problem:
    """One NLP in IPOPT; `functions` holds the callbacks, as for `cyipopt.Problem`."""

    def __init__(
        self,
        library: ctypes.CDLL,
        functions: Any,
        evaluation_error: type[Exception],
        bounds: tuple[np.ndarray, np.ndarray],
        constraint_bounds: tuple[np.ndarray, np.ndarray],
    ):
        self._library = library
        self._functions = functions
        self._evaluation_error = evaluation_error
        self._error: BaseException | None = None
        self._bounds = [
            np.ascontiguousarray(side, np.float64) for side in (*bounds, *constraint_bounds)
        ]
        self._size, self._equations = len(self._bounds[0]), len(self._bounds[2])
        self._jacobian_at = _indices(functions.jacobianstructure())
        exact = hasattr(functions, "hessian")
        self._hessian_at = _indices(functions.hessianstructure()) if exact else _indices(([], []))
        self._callbacks = self._make_callbacks()
        lower, upper, constraint_lower, constraint_upper = (side.ctypes for side in self._bounds)
        self._problem = library.CreateIpoptProblem(
            self._size, lower.data, upper.data,
            self._equations, constraint_lower.data, constraint_upper.data,
            len(self._jacobian_at[0]), len(self._hessian_at[0]), 0, *self._callbacks[:5],
        )  # fmt: skip
        if not self._problem:
            raise RuntimeError("IPOPT could not create the problem")
        library.SetIntermediateCallback(self._problem, self._callbacks[5])
        if not exact:
            self.add_option("hessian_approximation", "limited-memory")

    def __del__(self) -> None:
        if getattr(self, "_problem", None):
            self._library.FreeIpoptProblem(self._problem)
            self._problem = None

    def add_option(self, name: str, value: str | int | float) -> None:
        """Set an option; `TypeError` if IPOPT refuses it."""
        key = name.encode()
        if isinstance(value, str):
            accepted = self._library.AddIpoptStrOption(self._problem, key, value.encode())
        elif isinstance(value, int):
            accepted = self._library.AddIpoptIntOption(self._problem, key, value)
        else:
            accepted = self._library.AddIpoptNumOption(self._problem, key, value)
        if not accepted:
            raise TypeError(f"IPOPT refuses {name} = {value!r}")

    def solve(
        self,
        x: np.ndarray,
        lagrange: np.ndarray | None = None,
        zl: np.ndarray | None = None,
        zu: np.ndarray | None = None,
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Solve from `x`, and from the multipliers if the warm-start option is set."""
        x = np.array(x, np.float64)
        g = np.zeros(self._equations)
        multipliers = [
            np.zeros(size) if given is None else np.array(given, np.float64)
            for given, size in ((lagrange, len(g)), (zl, len(x)), (zu, len(x)))
        ]
        objective = ctypes.c_double()
        self._error = None
        status = self._library.IpoptSolve(
            self._problem, x.ctypes.data, g.ctypes.data, ctypes.addressof(objective),
            *(part.ctypes.data for part in multipliers), None,
        )  # fmt: skip
        if self._error is not None:
            raise self._error
        return x, {
            "x": x,
            "g": g,
            "obj_val": objective.value,
            "mult_g": multipliers[0],
            "mult_x_L": multipliers[1],
            "mult_x_U": multipliers[2],
            "status": status,
            "status_msg": _MESSAGES.get(status, "Unknown status"),
        }

    def get_current_iterate(self) -> dict[str, np.ndarray] | None:
        """Point and multipliers of the current iteration, inside its callback."""
        n, m = self._size, self._equations
        x, lower, upper, g, dual = (np.zeros(size) for size in (n, n, n, m, m))
        found = self._library.GetIpoptCurrentIterate(
            self._problem, False, n, x.ctypes.data, lower.ctypes.data, upper.ctypes.data,
            m, g.ctypes.data, dual.ctypes.data,
        )  # fmt: skip
        if not found:
            return None
        return {"x": x, "g": g, "mult_g": dual, "mult_x_L": lower, "mult_x_U": upper}

    def _guarded(self, call: Callable[[], None]) -> bool:
        # An exception cannot pass through IPOPT: keep it, let every evaluation fail from now
        # on, and raise it once IPOPT has returned.
        if self._error is not None:
            return False
        try:
            call()
        except self._evaluation_error:
            return False
        except BaseException as error:
            self._error = error
            return False
        return True

    def _make_callbacks(self) -> tuple[Any, ...]:
        functions, size, equations = self._functions, self._size, self._equations

        def objective(n: int, x: int, new: bool, value: int, data: Any) -> bool:
            def call() -> None:
                _view(value, 1)[0] = functions.objective(_copy(x, size))

            return self._guarded(call)

        def gradient(n: int, x: int, new: bool, values: int, data: Any) -> bool:
            def call() -> None:
                _view(values, size)[:] = functions.gradient(_copy(x, size))

            return self._guarded(call)

        def constraints(n: int, x: int, new: bool, m: int, values: int, data: Any) -> bool:
            def call() -> None:
                _view(values, equations)[:] = functions.constraints(_copy(x, size))

            return self._guarded(call)

        def jacobian(
            n: int, x: int, new: bool, m: int, num: int, rows: int, columns: int, values: int,
            data: Any,
        ) -> bool:  # fmt: skip
            def call() -> None:
                if values:
                    _view(values, num)[:] = functions.jacobian(_copy(x, size))
                else:
                    _fill(rows, columns, self._jacobian_at)

            return self._guarded(call)

        def hessian(
            n: int, x: int, new: bool, factor: float, m: int, multipliers: int, new_m: bool,
            num: int, rows: int, columns: int, values: int, data: Any,
        ) -> bool:  # fmt: skip
            def call() -> None:
                if values:
                    point, dual = _copy(x, size), _copy(multipliers, equations)
                    _view(values, num)[:] = functions.hessian(point, dual, factor)
                else:
                    _fill(rows, columns, self._hessian_at)

            return self._guarded(call)

        def intermediate(*arguments: Any) -> bool:
            go_on = [False]

            def call() -> None:
                go_on[0] = functions.intermediate(*arguments[:-1])

            return self._guarded(call) and go_on[0]

        return (
            _Objective(objective),
            _Constraints(constraints),
            _Gradient(gradient),
            _Jacobian(jacobian),
            _Hessian(hessian),
            _Intermediate(intermediate),
        )


def _indices(structure: Any) -> tuple[np.ndarray, np.ndarray]:
    rows, columns = structure
    return np.ascontiguousarray(rows, np.int32), np.ascontiguousarray(columns, np.int32)


def _view(address: int, size: int) -> np.ndarray:
    buffer: Any = (ctypes.c_double * size).from_address(address)
    return np.frombuffer(buffer)


def _copy(address: int, size: int) -> np.ndarray:
    return _view(address, size).copy()


def _fill(rows: int, columns: int, structure: tuple[np.ndarray, np.ndarray]) -> None:
    for address, values in zip((rows, columns), structure, strict=True):
        ctypes.memmove(address, values.ctypes.data, values.nbytes)
