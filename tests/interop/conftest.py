# SPDX-License-Identifier: Apache-2.0
import pytest

from harness import Cloud, Node


@pytest.fixture
def cloud(tmp_path):
    c = Cloud(tmp_path)
    c.start()
    yield c
    c.kill()


@pytest.fixture
def node(tmp_path, cloud):
    n = Node(tmp_path, cloud=cloud, token=cloud.token())
    yield n
    n.kill()
    n.end_workloads()
