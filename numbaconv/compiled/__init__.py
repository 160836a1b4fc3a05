"""Calls from the user's own compiled functions: what Numba finds when it compiles them, and what such a call does.

When Numba types a call, :mod:`numbaconv.compiled.overloads` writes down all that is known then: a ``Request``. The code of the
call (:mod:`numbaconv.compiled.call`) looks its shapes up in a table that Python fills (:mod:`numbaconv.compiled.resolve`), and
runs the program that it finds there (:mod:`numbaconv.cpu.program`): the tasks that the same call runs outside.
"""
