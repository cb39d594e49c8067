import pytest
import torch

from m3pc_ray.diagnosis import gpu


def test_no_gpu_is_fine(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (row,) = gpu.check_gpu()
    assert row.status == "ok"
    assert "everything runs on the CPU" in row.found


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_every_gpu_multiplies_correctly():
    rows = gpu.check_gpu()
    assert [row.status for row in rows] == ["ok"] * torch.cuda.device_count()


def test_a_product_that_is_only_rounded_passes():
    row = gpu.check_product("cpu", "this CPU", size=256)
    assert row.status == "ok"
    assert 1e-4 < gpu.product_error("cpu", 256) < gpu.TOLERANCE  # bfloat16 was used, and suffices


@pytest.mark.parametrize("damage", [lambda x: x * 1.02, lambda x: x * torch.nan, lambda x: x.roll(1, 0)])
def test_a_wrong_product_fails(monkeypatch, damage):
    right = torch.Tensor.__matmul__

    def wrong(left: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        product = right(left, factor)
        return damage(product) if left.dtype is torch.bfloat16 else product

    monkeypatch.setattr(torch.Tensor, "__matmul__", wrong)
    row = gpu.check_product("cpu", "this CPU", size=128)
    assert row.status == "failure"
    assert "--device cpu" in row.advice
