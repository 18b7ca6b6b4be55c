"""Network ↔ JSON, and the digest of a file."""

from __future__ import annotations

import hashlib
import json

import pytest

from export.network import Graph, Network, file_sha256

MAIN = Graph("/a/main.onnx", "00ff", "/a/main.safetensors", "p.m:C", {"width": 24, "dilations": [1, 2]}, "folded")
SMALL = Graph("/a/small.onnx", "11ee", "/a/small.safetensors", "p.m:C", {}, "thumbnail_affines")
NETWORKS = [
    Network("can24", "thumbnail", MAIN, SMALL, (("w0", "b0"), ("w1", "b1")), 20, 1),
    Network("can24", "image", MAIN, None, (), 20, 1),
    Network("espcn", None, MAIN, None, (), 20, 3),
]


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: str(n.statistics))
def test_json_gives_the_same_network_back(network):
    restored = Network.from_json(network.to_json())
    assert restored == network
    assert isinstance(restored.main, Graph)
    assert isinstance(restored.refit_rule, tuple)
    assert all(isinstance(pair, tuple) for pair in restored.refit_rule)


def test_json_is_one_plain_object():
    data = json.loads(NETWORKS[0].to_json())
    assert data["model"] == "can24"
    assert data["main"]["onnx_path"] == "/a/main.onnx"
    assert data["refit_rule"] == [["w0", "b0"], ["w1", "b1"]]


def test_a_field_of_another_version_is_refused():
    with pytest.raises(TypeError, match="extra"):
        Network.from_json(json.dumps({**json.loads(NETWORKS[1].to_json()), "extra": 1}))


def test_digest_of_a_file(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "f").write_bytes(content)
    assert file_sha256(tmp_path / "f") == hashlib.sha256(content).hexdigest()
    assert file_sha256(str(tmp_path / "f")) == file_sha256(tmp_path / "f")
