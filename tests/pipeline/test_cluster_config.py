import pytest

from pipeline.cluster_config import ClusterConfig, parse_bytes
from pipeline.config import load_config
from pipeline.errors import UserError


def test_a_node_takes_from_the_defaults_what_it_does_not_say():
    cluster = ClusterConfig(defaults={"cpu": 4, "memory": "8Gi"}, nodes={"DimSearch": {"cpu": 16}})

    assert (cluster.node("DimSearch").cpu, cluster.node("DimSearch").memory) == (16.0, "8Gi")
    assert (cluster.node("Trainer").cpu, cluster.node("Trainer").memory) == (4.0, "8Gi")


def test_the_section_reads_what_it_writes():
    config = load_config("adult", ["cluster.image=a/b:1", "cluster.nodes.DimSearch.accelerator=NVIDIA_L4"])

    assert config.cluster.node("DimSearch").accelerator == "NVIDIA_L4"
    assert ClusterConfig.from_dict(config.cluster.to_dict()) == config.cluster


@pytest.mark.parametrize(
    ("size", "expected"), [("16Gi", 2**34), ("5G", 5 * 10**9), ("100", 0), ("1.5Gi", 0), ("Gi", 0)]
)
def test_sizes_have_a_unit(size, expected):
    assert parse_bytes(size) == expected


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("nodes={DimSearch: {cpu: 0}}", r"cluster\.nodes\.DimSearch\.cpu must be > 0; received 0"),
        ("nodes={DimSearch: {memory: 16}}", r"cluster\.nodes\.DimSearch\.memory must be text"),
        ("nodes={DimSearch: {memory: 16GB}}", r"cluster\.nodes\.DimSearch\.memory must be a size with a unit"),
        ("nodes={DimSearch: {accelerator_count: 0}}", r"accelerator_count must be >= 1"),
        ("nodes={DimSearch: {node_selector: {spot: true}}}", r"node_selector: labels are texts"),
        ("nodes={DimSearch: {gpu: 1}}", r"unknown key 'cluster\.nodes\.DimSearch\.gpu'"),
        ("nodes={DimSearch: 8}", r"cluster\.nodes\.DimSearch must be a mapping"),
        ("defaults={retries: -1}", r"cluster\.defaults\.retries must be >= 0"),
        ("labels={Team: ads}", r"cluster\.labels: names and values must be .* received 'Team': 'ads'"),
        ("image=a b", r"cluster\.image must be an image reference"),
        ("imag=a", r"unknown key 'cluster\.imag'. Did you mean 'image'"),
    ],
)
def test_mistakes_name_their_place(setting, message):
    with pytest.raises(UserError, match=message):
        load_config("adult", [f"cluster.{setting}"])
