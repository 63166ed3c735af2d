#!/usr/bin/env bash
# A task with async does not run where the path of the Python interpreter has a space in it; the same task without async
# does. Ansible quotes that path on the command line of a module, but not on that of its async wrapper, so that the shell
# takes the first half of the path for the program. The error speaks of JSON that is missing, not of the path.
#
# Seen with ansible-core 2.19.14, connection local. Without async: ok. With async:
#   Module result deserialization failed: No start of json char found, "rc": 127
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
differs() {
    echo "NOT AS STATED: $*" >&2
    exit 1
}

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ansible-core==2.19.14
mkdir "$work/a folder"
ln -s "$work/venv/bin/python3" "$work/a folder/python3"
cat > "$work/playbook.yml" << 'PLAYBOOK'
- hosts: localhost
  gather_facts: false
  tasks:
    - name: Without async
      ansible.builtin.ping:
    - name: With async
      ansible.builtin.ping:
      async: 30
      poll: 1
PLAYBOOK
export ANSIBLE_HOME=$work/home ANSIBLE_NOCOLOR=1 ANSIBLE_LOCALHOST_WARNING=false
status=0
"$work/venv/bin/ansible-playbook" -i localhost, -c local -e "{ansible_python_interpreter: \"$work/a folder/python3\"}" \
    "$work/playbook.yml" > "$work/output" 2>&1 || status=$?
cat "$work/output"
((status == 2)) || differs "it ended with $status"
grep -q '^ok: \[localhost\]' "$work/output" || differs "the task without async did not run"
grep -q 'No start of json char found.*"rc": 127' "$work/output" || differs "the task with async failed otherwise, or not"
