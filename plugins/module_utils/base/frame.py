# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The frame in which every module runs its job."""

from __future__ import annotations

import errno
import os
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.parameters import remove_values

from ansible_collections.handover.postgresql.plugins.module_utils.base import signals
from ansible_collections.handover.postgresql.plugins.module_utils.base.arguments import BOTH
from ansible_collections.handover.postgresql.plugins.module_utils.base.endpoint import (
    PSYCOPG2_IMPORT_ERROR,
    Endpoint,
    psycopg2,
)
from ansible_collections.handover.postgresql.plugins.module_utils.base.errors import HandoverError
from ansible_collections.handover.postgresql.plugins.module_utils.base.progress import progress
from ansible_collections.handover.postgresql.plugins.module_utils.base.quantities import seconds_of
from ansible_collections.handover.postgresql.plugins.module_utils.base.secrets import sealed
from ansible_collections.handover.postgresql.plugins.module_utils.base.wording import one_line

# Of options that are numbers; less would harm, or do nothing.
LEAST = {"jobs": 1, "rehearsal_rows": 1, "samples": 0, "sequence_margin": 0}


def endpoint(module: AnsibleModule, side: str, options: dict[str, Any] | None = None) -> Endpoint:
    """The endpoint that the user described as ``side``, or by ``options``, its secrets made known to ``run``."""
    if PSYCOPG2_IMPORT_ERROR:
        module.fail_json(msg=missing_required_lib("psycopg2"), exception=PSYCOPG2_IMPORT_ERROR)
    described = Endpoint.from_options(side, module.params[side] if options is None else options)
    module.no_log_values.update(described.secrets)
    return described


class Module(AnsibleModule):
    """A module for which empty text means that an option is not given: so a survey answers, and so templates end."""

    params: dict[str, Any]

    def _load_params(self) -> None:
        super()._load_params()
        self.params = _given(self.argument_spec, self.params)


def _given(spec: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """The parameters without those that are empty, also below options that have options themselves."""
    given = {name: value for name, value in params.items() if not (isinstance(value, str) and value == "")}
    for name, value in given.items():
        within = spec.get(name, {}).get("options")
        if within and isinstance(value, dict):
            given[name] = _given(within, value)
    return given


def run(argument_spec: dict[str, Any], job: Callable[[AnsibleModule], dict[str, Any]], **constraints: Any) -> None:
    """Run ``job(module) -> result`` and leave through exit_json or fail_json, cleaning up on SIGTERM and SIGINT too."""
    module = Module(argument_spec=argument_spec, supports_check_mode=True, **constraints)
    os.umask(0o077)
    tempfile.tempdir = module.tmpdir  # Ansible removes it after the task, also when the module was killed
    signals.end_in_order()
    try:
        refuse_numbers(module.params)
        if "progress" in module.params:
            seconds_of("progress", module.params["progress"] or None)
            progress.begin(module.tmpdir)
        if module.params.get("each_by_itself"):
            result = _each_by_itself(module, job)
            leave = module.fail_json if "msg" in result else module.exit_json
        else:
            leave, result = module.exit_json, job(module)
    except Exception as error:  # pylint: disable=broad-except
        leave, result = module.fail_json, _failure(module, error)
    _leave(module, leave, result)


def _each_by_itself(module: AnsibleModule, job: Callable[[AnsibleModule], dict[str, Any]]) -> dict[str, Any]:
    """What the job returns for each database, or how it fails, as a loop would have it."""
    names, results = module.params["databases"], []
    if not names:
        raise HandoverError("each_by_itself is true, but databases is empty.", "Name the databases.")
    for name in names:
        module.params["databases"] = [name]
        try:
            found = {"failed": False, **job(module)}
        except Exception as error:  # pylint: disable=broad-except
            found = {"failed": True, "changed": False, **_failure(module, error)}
        progress.leave(name)
        results.append({"item": name, **found})
    module.params["databases"] = names
    problems = [one["msg"] for one in results if one["failed"]]
    diffs = [one.pop("diff") for one in results if "diff" in one]
    return {
        "results": results,
        "changed": any(one.get("changed", False) for one in results),
        **({"diff": diffs} if diffs else {}),
        **({"msg": " ".join(problems)} if problems else {}),
    }


def _leave(module: AnsibleModule, leave: Callable[..., None], result: dict[str, Any]) -> None:
    """Exit or fail, secrets masked by us: Ansible would replace their letters in names and words, too.

    Only the arguments, by which nothing is decided, are masked as Ansible does it.
    """
    secrets = module.no_log_values
    shown = {"module_args": remove_values(module.params, secrets)}
    result = sealed(result, secrets, _open_values(module.argument_spec, module.params))
    module.no_log_values = set()
    leave(**result, invocation=shown)


def _open_values(spec: dict[str, Any] | None, params: Any) -> Any:
    """The parameters without those that are secrets."""
    if isinstance(params, list):
        return [_open_values(spec, one) for one in params]
    if not spec or not isinstance(params, dict):
        return params
    kept = {name: value for name, value in params.items() if not spec.get(name, {}).get("no_log")}
    return {name: _open_values(spec.get(name, {}).get("options"), value) for name, value in kept.items()}


def run_between(
    argument_spec: dict[str, Any], job: Callable[[Endpoint, Endpoint, dict[str, Any], bool], dict[str, Any]]
) -> None:
    """Run ``job(source, target, params, check_mode) -> result``; ``argument_spec`` is what it takes besides the two."""
    run(
        {**BOTH, **argument_spec},
        lambda module: job(endpoint(module, "source"), endpoint(module, "target"), module.params, module.check_mode),
    )


def refuse_numbers(params: dict[str, Any]) -> None:
    """Raise HandoverError for a number that cannot be meant."""
    for name, least in LEAST.items():
        given = params.get(name)
        if given is not None and given < least:
            raise HandoverError(f"{name} is {given}.", f"Give a number of at least {least}.")


PARTS = ("problem", "remedy")  # of the message, for who asks for more words
FILE_REMEDIES = {
    errno.ENOSPC: "Free disk space there, and run this again.",
    errno.EACCES: "Give that permission to the user that the module runs as, or choose another place.",
}


def _failure(module: AnsibleModule, error: Exception) -> dict[str, Any]:
    """The arguments of ``fail_json`` for what a job raised."""
    found = _told(error)
    # What is said once in the message is not said again.
    return found if module._verbosity else {name: value for name, value in found.items() if name not in PARTS}


def _told(error: Exception) -> dict[str, Any]:
    if isinstance(error, OSError):
        error = _file_error(error)
    elif psycopg2 is not None and isinstance(error, psycopg2.Error):
        error = server_error(error)
    if isinstance(error, HandoverError):
        return error.as_result()
    told = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return {"msg": f"This is a fault of the collection; please report it: {told.splitlines()[-1]}", "exception": told}


def _file_error(error: OSError) -> HandoverError:
    """What no floor below expected of the file system."""
    remedy = FILE_REMEDIES.get(error.errno or 0, "Fix the cause, then run this again.")
    return HandoverError(f"{error.filename or 'A file'}: {error.strerror or error}.", remedy)


def server_error(error: psycopg2.Error) -> HandoverError:
    """What no floor below expected of a server."""
    text = one_line(error)
    if error.pgcode is None or error.pgcode.startswith("57P"):  # the connection was lost, or the server is going down
        return HandoverError(
            f"A server ended a session: {text}.",
            "Check the server's log for the reason, then run this again.",
            sqlstate=error.pgcode,
        )
    return HandoverError(
        f"A server refused a statement: {text}.", "Fix the cause, then run this again.", sqlstate=error.pgcode
    )
