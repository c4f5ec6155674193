"""What this machine is called, by which the clock of one is told from that of another."""

from pathlib import Path

from components.runtime.cpus import usable_cpus
from components.runtime.hardware import cpu_name, gpu_name, machine


def test_a_processor_is_named_as_linux_names_it(tmp_path: Path) -> None:
    told = tmp_path / "cpuinfo"
    told.write_text("processor\t: 0\nmodel\t\t: 85\nmodel name\t: Xeon(R) CPU @ 2.00GHz: fast\n\nmodel name\t: another\n")
    assert cpu_name(told) == "Xeon(R) CPU @ 2.00GHz: fast"
    assert cpu_name(tmp_path / "none") != ""


def test_a_gpu_is_named_without_torch_and_none_is_no_name(tmp_path: Path) -> None:
    for place, name in (("0000:1b:00.0", "NVIDIA H200"), ("0000:0a:00.0", "NVIDIA A10")):
        (tmp_path / place).mkdir()
        (tmp_path / place / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 30\n")
    assert gpu_name(tmp_path) == "NVIDIA A10"


def test_machines_differ_by_their_threads() -> None:
    assert machine("cpu") == machine("cpu", threads=usable_cpus()) == f"{cpu_name()}, {usable_cpus()} threads"
    assert machine("cpu", threads=1) != machine("cpu", threads=2)
