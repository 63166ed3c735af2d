# Copyright (c) 2026 The handover.postgresql authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that say which databases are worked on, how they are read, and how the target's are filled."""

from __future__ import annotations

_RENAME = r"""  rename:
    description: Names on the target, for databases that have, or get, another name there than on the source.
    type: dict
    default: {}
"""


class ModuleDocFragment:
    """One attribute a fragment: ``handover.postgresql.databases.selection`` and so on.

    Those with a type are put together: ansible-test takes what is assigned without one for a literal.
    """

    SELECTION = r"""
options:
  databases:
    description:
      - Databases, by their names on the source.
      - Without it, all but templates, V(postgres), and those in O(ignore_databases).
    type: list
    elements: str
    default: []
  ignore_databases:
    description: Databases to leave out when O(databases) is not given.
    type: list
    elements: str
    default: []
"""

    PAIRS: str = SELECTION + _RENAME

    RENAME: str = "options:\n" + _RENAME

    BY_ITSELF = r"""
options:
  each_by_itself:
    description:
      - Work on each of the O(databases), which have to be named, as a run for it alone would, and go on with the others
        where one fails.
      - The result then has RV(ignore:results), a list of what each of these runs would return, with its database as
        C(item), as a loop would have it. It costs less than a loop, which starts Python for each.
    type: bool
    default: false
"""

    READING = r"""
options:
  source_is_quiet:
    description:
      - Confirm whether nothing writes to the source, from before this module reads it until applications use the
        target.
      - With V(true), what an earlier run made is kept only if that run was given V(true), and if the server has counted
        no rows or large objects written since; otherwise the module fails. A crash of the server resets its counters,
        so the module fails then, too.
      - On a standby, and if C(track_counts) is off for the server, the database or any role, nobody counts, and the
        module relies on this option alone. Values of sequences are never counted.
    type: bool
  exclude_schemas:
    description: Patterns of schemas to leave out, as C(pg_dump --exclude-schema) takes them.
    type: list
    elements: str
    default: []
  exclude_tables:
    description: Patterns of tables to leave out, as C(pg_dump --exclude-table) takes them.
    type: list
    elements: str
    default: []
  unlogged_table_data:
    description: Whether to bring over the rows of unlogged tables.
    type: bool
    default: false
  lock_wait_timeout:
    description: Milliseconds to wait for the lock on a table of the source before giving up.
    type: int
    default: 480000
"""

    FILLING = r"""
options:
  create:
    description:
      - Create each database, with the encoding, locale and other properties of the source's.
      - The module fills a database under a temporary name. If the database has the extension pg_cron, or a column of
        type regdatabase, it is filled under its own name, because these need it. Until it is complete, its journal says
        so, and a run that starts over drops it.
      - With V(false), the database exists already and must be empty. It is filled under its own name, and its owner,
        comment and connection limit stay as they are. The owner that it had on the source gets an owner's privileges.
    type: bool
    default: true
  replace:
    description: Replace existing databases that O(replace_databases) names. What they hold is lost.
    type: bool
    default: false
  replace_databases:
    description: Names, on the target, of the databases that may be replaced.
    type: list
    elements: str
    default: []
  locale_map:
    description:
      - Locales of the source that the target lacks, and the locales to use there instead.
      - 'For example V({en_US.utf8: en_US.UTF-8}).'
    type: dict
    default: {}
  skip_roles:
    description: Roles that the target does not get. Their objects belong to the connecting role there.
    type: list
    elements: str
    default: []
  no_owner:
    description: Let everything belong to the connecting role.
    type: bool
    default: false
  no_privileges:
    description: Leave out privileges, of the database and of everything in it.
    type: bool
    default: false
  no_tablespaces:
    description: Put everything into the default tablespace.
    type: bool
    default: true
  exclude_extensions:
    description:
      - Extensions to leave out, together with everything that needs them, rows included.
      - An extension that the target does not offer is left out anyway if no rows need it. If rows need it, the module
        fails.
    type: list
    elements: str
    default: []
  analyze:
    description:
      - V(auto) takes over the source's statistics if C(pg_dump) and the target are 18 or later, and analyzes tables
        that have none.
      - V(full) analyzes everything, V(in_stages) with a statistics target of 1, then 10, then the default.
        V(none) analyzes nothing.
    type: str
    choices: [auto, full, in_stages, none]
    default: auto
  refresh_materialized_views:
    description: Refresh the materialized views that hold data on the source.
    type: bool
    default: true
  leave_out:
    description:
      - Objects to leave out, with all that needs them, as the results of earlier runs name them, such as
        V(INDEX public.by_name), or without the class, V(public.by_name). A table that is left out, or that needs what
        is, is left out with its rows.
      - With it, a run is complete without definitions that the target refuses.
    type: list
    elements: str
    default: []
  toast_compression:
    description:
      - How the target compresses values that are too long for a page, as it receives all of them uncompressed. With
        V(auto), by lz4 while rows are loaded, which takes a third of the processor time of pglz, if the target was
        built with it and nobody has set C(default_toast_compression), in its configuration, for the database or for
        the role. V(keep) leaves the setting as it is.
      - Columns that have a method of their own keep it. The setting of the database is not changed.
    type: str
    choices: [auto, keep]
    default: auto
"""

    UNCHECKED = r"""
options:
  unchecked_foreign_keys:
    description:
      - Make foreign keys that rows break all the same, without checking the rows that are there, as C(NOT VALID). The
        result lists them with the statements that check them once the rows are fixed.
      - Before PostgreSQL 18, a key of a partitioned table cannot be made so, and stays pending.
    type: bool
    default: false
"""
