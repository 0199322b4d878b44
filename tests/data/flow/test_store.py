"""Eight-bit files, what is kept beside the flow, and disks that are full."""

import errno
import json

import numpy as np
import pytest

from ska_vct.data.flow.store import FlowError, FlowRecord, read_flow, read_flow_meta, write_flow

META = {
    "method": "dis", "weights": "", "fps": 10.0, "time_step": 0.1, "height": 96, "width": 128, "clip_id": "test/a",
    "source": "video",
}  # fmt: skip


def make_record(**meta) -> FlowRecord:
    rng = np.random.default_rng(0)
    # Fields of very different speeds, one without motion.
    speeds = np.array([[0.0, 1.0, 300.0], [7.0, 0.01, 2000.0]])[:, :, None, None, None]
    flow = (rng.uniform(-1, 1, (2, 3, 2, 6, 8)) * speeds).astype(np.float16)
    return FlowRecord(flow=flow, meta={**META, **meta})


def test_eight_bits_are_read_as_flow_of_half_a_step_off_at_most(tmp_path):
    record, path = make_record(), tmp_path / "a.npz"
    write_flow(path, record, bits=8)
    back = read_flow(path, clip_id="test/a", num_frames=2)
    assert back.flow.dtype == np.float16 and back.meta == {**META, "version": 2}
    exact = record.flow.astype(np.float64)
    half_step = np.abs(exact).max(axis=(2, 3, 4), keepdims=True) / 127 / 2
    # float16 keeps 11 bits: its own rounding of the value read adds up to 2^-11 of it.
    assert (np.abs(back.flow - exact) <= half_step * 1.001 + np.abs(exact) * 2**-10).all()
    assert not back.flow[0, 0].any()
    # Written again, what was read gives the same steps.
    write_flow(tmp_path / "b.npz", back, bits=8)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npz")["flow"], np.load(path)["flow"])


def test_eight_bits_take_half_the_room(tmp_path):
    rng = np.random.default_rng(0)
    record = FlowRecord(flow=rng.normal(0, 9, (5, 10, 2, 24, 24)).astype(np.float16), meta=META)
    for bits in (16, 8):
        write_flow(tmp_path / f"{bits}.npz", record, bits=bits)
    sizes = [(tmp_path / f"{bits}.npz").stat().st_size for bits in (8, 16)]
    assert sizes[0] < 0.55 * sizes[1]


def test_other_numbers_of_bits_are_refused(tmp_path):
    with pytest.raises(FlowError, match="16 or 8 bits, not 4"):
        write_flow(tmp_path / "a.npz", make_record(), bits=4)


@pytest.mark.parametrize(
    "arrays",
    [
        {"scale": np.ones((2, 2), np.float32)},
        {"scale": np.ones((2, 3), np.float64)},
        {"scale": np.full((2, 3), np.inf, np.float32)},
        {"scale": np.full((2, 3), 1e30, np.float32)},
        {"flow": np.ones((2, 3, 2, 6, 8), np.float16)},
        {"flow": np.ones((2, 3, 3, 6, 8), np.int8)},
        {"meta": np.array(json.dumps({**META, "version": 3}))},
    ],
)
def test_damaged_eight_bit_files_are_one_sentence(tmp_path, arrays):
    path = tmp_path / "bad.npz"
    good = {
        "flow": np.ones((2, 3, 2, 6, 8), np.int8), "scale": np.ones((2, 3), np.float32),
        "meta": np.array(json.dumps({**META, "version": 2})),
    }  # fmt: skip
    np.savez(path, **good)
    assert (read_flow(path).flow == 1).all()
    np.savez(path, **{**good, **arrays})
    with pytest.raises(FlowError, match=r"bad\.npz"):
        read_flow(path)


def test_metadata_can_be_read_alone(tmp_path):
    record, path = make_record(request={"method": "dis", "series": 3}), tmp_path / "a.npz"
    write_flow(path, record)
    assert read_flow_meta(path) == read_flow(path).meta
    assert read_flow_meta(path)["request"] == {"method": "dis", "series": 3}
    path.write_bytes(path.read_bytes()[:-40])
    for broken in (path, tmp_path / "none.npz"):
        with pytest.raises(FlowError, match=broken.name):
            read_flow_meta(broken)
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(FlowError, match=r"array\.npz cannot be read"):
        read_flow_meta(tmp_path / "array.npz")


@pytest.mark.parametrize("bits", [16, 8])
def test_a_full_disk_leaves_nothing_new_and_spares_what_was_there(tmp_path, small_disk, bits):
    old, path = make_record(), tmp_path / "a.npz"
    write_flow(path, old)
    new = FlowRecord(flow=np.random.default_rng(1).normal(0, 9, (5, 9, 2, 24, 24)).astype(np.float16), meta=META)
    with small_disk(4096):
        for target in (path, tmp_path / "b.npz"):
            with pytest.raises(OSError) as caught:
                write_flow(target, new, bits=bits)
            assert caught.value.errno == errno.EFBIG
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
    np.testing.assert_array_equal(read_flow(path).flow, old.flow)
