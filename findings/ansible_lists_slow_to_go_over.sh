#!/usr/bin/env bash
# A list that a filter gets from Ansible's variables is no plain list: each pass over its dicts costs many times what
# one over a plain copy does, also the second and the hundredth, when nothing is left to be rendered. A filter that
# looks through all results once for each host or database takes seconds for what seems to be nothing.
#
# Seen with ansible-core 2.19.4, 5,000 registered results of one kind, gone over 100 times in a filter:
#   a _AnsibleLazyTemplateList of _AnsibleLazyTemplateDict takes 28 times the seconds of a plain copy, then 29 times
# A filter that goes over them once, and keeps what it needs by key, does not notice.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet ansible-core==2.19.4
mkdir "$work/library" "$work/filter_plugins"
cat > "$work/library/many.py" << 'MODULE'
from ansible.module_utils.basic import AnsibleModule

AnsibleModule({}).exit_json(found=[{"database": f"shop_{n % 50}", "level": "ok"} for n in range(5000)])
MODULE
cat > "$work/filter_plugins/passes.py" << 'FILTER'
import json
import time


def seconds(found):
    began = time.process_time()
    for number in range(100):
        assert sum(one["database"] == f"shop_{number}" for one in found) == (100 if number < 50 else 0)
    return time.process_time() - began


def passes(found):
    plain = json.loads(json.dumps(list(map(dict, found)), default=str))
    first, second = seconds(found), seconds(found)
    types = [type(found).__name__, type(found[0]).__name__]
    return {"types": types, "times": [one / seconds(plain) for one in (first, second)]}


class FilterModule:
    def filters(self):
        return {"passes": passes}
FILTER
cat > "$work/play.yml" << 'PLAY'
- hosts: localhost
  gather_facts: false
  tasks:
    - many:
      register: looked
    - copy:
        content: "{{ looked.found | passes | to_json }}"
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
print(seen["types"], [f"{times:.0f} times a plain list" for times in seen["times"]])
assert seen["types"] == ["_AnsibleLazyTemplateList", "_AnsibleLazyTemplateDict"]
assert all(times > 4 for times in seen["times"])
CHECK
