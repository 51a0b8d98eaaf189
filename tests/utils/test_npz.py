"""Our reader of .npy and .npz gives what NumPy's does, whatever the order, type and version."""

import io

import numpy as np
import pytest

from histojax.utils.array_files import npz

VALUES = np.arange(24).reshape(2, 3, 4)


def written(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    np.lib.format.write_array(out := io.BytesIO(), array, version)
    return out.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", ">i2", "|u1", "|b1", "<i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_is_read_as_numpy_reads_it(version, dtype, order):
    array = np.asarray(VALUES, dtype, order=order)
    read = npz.read_array(written(array, version))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,)])
def test_shapes_without_sides_or_values_are_read(shape):
    assert npz.read_array(written(np.zeros(shape, np.float32))).shape == shape


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_the_members_of_a_zip_are_read_packed_or_not(save):
    arrays = {"a": VALUES.astype("f2"), "b/c": np.array(["x", "longer"]), "d": np.float64(1.5)}
    save(out := io.BytesIO(), **arrays)
    for name, array in npz.read_arrays(out.getvalue()).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_an_endless_header_is_refused():
    with pytest.raises(npz.Refused, match="claims 4294967295 bytes"):
        npz.read_array(b"\x93NUMPY\2\0" + b"\xff" * 8)
