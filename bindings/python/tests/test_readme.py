# SPDX-License-Identifier: Apache-2.0
"""What the README shows is true: its C compiles, its Python runs, its links lead somewhere."""
import pathlib
import re
import subprocess

import kubeedge

ROOT = pathlib.Path(kubeedge.__file__).resolve().parents[3]
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.M | re.S)


def test_c(tmp_path):
    """Each block as the inside of a function, with what it takes from its surroundings declared."""
    node, hooks = blocks("c")
    (tmp_path / "kubeedge").mkdir()
    template = (ROOT / "include" / "kubeedge" / "version.h.in").read_text()
    (tmp_path / "kubeedge" / "version.h").write_text(re.sub(r"@\w+@", "0", template))
    source = tmp_path / "readme.c"
    source.write_text(
        f"""#include <cjson/cJSON.h>
#include <kubeedge/kubeedge.h>
#include <openssl/crypto.h>
#include <sqlite3.h>
#include <stdlib.h>
extern const struct ke_runtime_ops my_containers;
extern const char *token;
void on_state(void *user, const struct ke_node_status *st);
int firmware(void);
int firmware(void)
{{
{node}
}}
extern sqlite3_mem_methods my_sqlite_methods;
void *my_malloc(size_t n);
void my_free(void *p);
void *my_crypto_malloc(size_t n, const char *file, int line);
void *my_crypto_realloc(void *p, size_t n, const char *file, int line);
void my_crypto_free(void *p, const char *file, int line);
void g(void);
void g(void)
{{
{hooks}
}}
"""
    )
    subprocess.run(
        ["cc", "-std=c11", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}", f"-I{tmp_path}", "-fsyntax-only", source],
        check=True,
    )


def test_python(tmp_path):
    """Until the node tells its first state."""
    (code,) = blocks("python")
    code = code.replace("/var/lib/edge-7", str(tmp_path / "node")).replace("cloud.example", "127.0.0.1")
    states = []
    space = {"token": "ab" * 32 + ".eyJhbGciOiJIUzI1NiJ9.e30.e30", "print": lambda s: (states.append(s), space["ctx"].stop())}
    exec(code, space)
    assert space["ctx"].closed and states
    space.clear()


def test_links():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link
