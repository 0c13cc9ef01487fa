"""Search the settings of an experiment, in several processes and on several machines.

    python -m rnnjax.sweep run SCRIPT --out DIR ...   create a sweep, run workers, write a report
    python -m rnnjax.sweep create SCRIPT --out DIR    only create it
    python -m rnnjax.sweep work --out DIR             add a worker, on any machine
    python -m rnnjax.sweep slurm --out DIR            add workers as Slurm jobs
    python -m rnnjax.sweep report --out DIR           write tables and figures so far

Every command has a --help. A grid of two fields, with two workers:

    python -m rnnjax.sweep run experiments/vanishing_gradients.py --out sweeps/a \\
        --search learning_rate=log:1e-4:1e-1:7 cells=elman,lstm,gru --set steps=500 seeds=3 \\
        --objective '*.final_loss' --workers 2

The same command continues an interrupted sweep. See docs/sweeps.md.
"""

import sys

from rnnjax.command_line import ArgumentError, fail, parse, until_reader_leaves
from rnnjax.sweep import commands, options

COMMANDS = {
    "run": (options.RunIt, commands.run),
    "create": (options.Create, commands.create),
    "work": (options.Work, commands.work),
    "slurm": (options.Slurm, commands.slurm),
    "report": (options.Report, commands.report),
}


def main(words: list[str]) -> int:
    """Run a command line; return the exit code."""
    command = words[0] if words else "--help"
    if command in ("-h", "--help"):
        with until_reader_leaves():
            print((__doc__ or "").strip())
        return 0
    if command not in COMMANDS:
        fail(f"no command {command!r}; there are {', '.join(COMMANDS)} (see --help)")
    config, function = COMMANDS[command]
    sys.argv[0] = f"python -m rnnjax.sweep {command}"
    parsed = parse(config, words[1:])
    try:
        with until_reader_leaves():
            return function(parsed)
    except ArgumentError as error:
        message, code = str(error), 2
    except OSError as error:
        message, code = str(error), 1
    except KeyboardInterrupt:
        message, code = "interrupted; the same command continues", 130
    except ImportError as error:
        message, code = f"{error}; install rnnjax[sweep], for jobs rnnjax[slurm]", 1
    fail(message, code)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
