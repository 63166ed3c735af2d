#!/usr/bin/env bash
# Ansible censors the value of a no_log option in everything that the module returns, names included: where a password
# equals a database's name, or a part of it, the next task that takes the name from the registered result gets another.
#
# Seen with ansible-core 2.19.4, password "app":
#   databases: [VALUE_SPECIFIED_IN_NO_LOG_PARAMETER, my********, other]   for [app, myapp, other]
# A number that contains the password is replaced as a whole: with "5432" the returned ports 5432 and 15432 are gone.
# Keys, booleans and null are never censored, whatever the password.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ansible-core==2.19.4
mkdir "$work/library"
cat > "$work/library/list_databases.py" << 'MODULE'
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({"password": {"type": "str", "no_log": True}})
module.exit_json(
    databases=["app", "myapp", "other"], by_name={"app": 1}, port=5432, ports=[15432], ready=True, error=None
)
MODULE
cat > "$work/play.yml" << 'PLAY'
- hosts: localhost
  gather_facts: false
  tasks:
    - list_databases:
        password: "{{ item }}"
      register: listed
      loop: [app, "5432", "True", "None"]
    - copy:
        content: "{{ dict(listed.results | map(attribute='item') | zip(listed.results)) | to_nice_json }}"
        dest: "{{ playbook_dir }}/out.json"
        mode: "0600"
PLAY
ANSIBLE_LIBRARY=$work/library ANSIBLE_LOCALHOST_WARNING=false "$work/venv/bin/ansible-playbook" \
    -i localhost, -c local -e "ansible_python_interpreter=$work/venv/bin/python" "$work/play.yml" > "$work/log"
"$work/venv/bin/python" - "$work/out.json" << 'CHECK'
import json
import sys

with open(sys.argv[1], encoding="utf-8") as file:
    seen = json.load(file)
for password, result in seen.items():
    shown = {name: result[name] for name in ("databases", "by_name", "port", "ports", "ready", "error")}
    print(f"password {password!r}: {shown}")
censored = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
assert seen["app"]["databases"] == [censored, "my********", "other"]
assert seen["app"]["by_name"] == {"app": 1}
assert seen["5432"]["port"] == censored and seen["5432"]["ports"] == [censored]
assert seen["True"]["ready"] is True and seen["None"]["error"] is None
CHECK
