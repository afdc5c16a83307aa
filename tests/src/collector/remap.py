"""Runs a program of Vector's remap language (VRL, by Vector's own crate) on each line of stdin, and
prints the event that comes of it as JSON; `null` where the program aborts. Argument: the program."""

import json, sys

from vrl_python import VRLRuntime

program = open(sys.argv[1]).read()
fault = VRLRuntime.check_syntax(program)
assert fault is None, fault
runtime = VRLRuntime()
for line in sys.stdin:
    try:
        event = runtime.execute(program, {"message": line.rstrip("\n")}).processed_event
    except RuntimeError as error:
        assert "aborted" in str(error), error
        event = None
    print(json.dumps(event))
