"""`zoo …` as its user types it, without seconds of imports for each."""

import functools
import multiprocessing
import os
import subprocess
import tempfile
from pathlib import Path


class Command:
    """A `zoo …` that runs in a process of its own.

    The process begins as a copy of one that has imported Keras and its backend, and
    done nothing with them.

    Args:
        *arguments: What stands after `zoo`.
        cwd: Folder to run in.
        first: Python code to execute before.
        **environment: Variables to change, but not what those imports read.
    """

    def __init__(self, *arguments, cwd=None, first="", **environment):
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name) / name for name in ("out", "err")]
        for file in self._files:
            file.touch()
        settings = {**os.environ, **environment}
        how = [*map(str, arguments)], self._files, cwd or os.getcwd(), settings, first
        self.process = _copies().Process(target=_run, args=how)
        self.process.start()
        self._said = None

    def said(self):
        """Return what it has written by now to stdout and to stderr."""
        return self._said or [file.read_text("utf-8") for file in self._files]

    def wait(self, timeout=None):
        """Return its exit code, or None if it has not ended within some seconds."""
        self.process.join(timeout)
        if self.process.exitcode is not None and not self._said:
            self._said = self.said()
            self._folder.cleanup()
        return self.process.exitcode


def zoo(*arguments, **how):
    """Run a `Command`; return a subprocess.CompletedProcess with texts."""
    command = Command(*arguments, **how)
    command.wait()
    code = command.process.exitcode
    return subprocess.CompletedProcess(arguments, code, *command.said())


@functools.cache
def _copies():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "zoo._backend", "zoo.tools.main"])
    return context


def _run(words, files, cwd, settings, first):
    import sys

    for number, file in enumerate(files, start=1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(settings)
    sys.path.insert(0, "")
    sys.argv[:] = ["zoo", *words]
    exec(first, {})
    from zoo.tools.main import run

    run()
