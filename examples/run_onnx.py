r"""A device that zenopt reaches only by a command: runs an ONNX file and prints milliseconds.

zenopt calls it with the path of a file and reads the last number it prints, the time of one forward of the whole
batch. This one runs onnxruntime on one CPU thread, and stands for whatever runs on your phone, board or accelerator:
replace the body by a copy of the file to the device and a call of its benchmark tool there.

    zenopt latency sample --study cifar-params1m --count 24 --output phone.csv \
        --command "python examples/run_onnx.py {onnx}"
    zenopt latency fit --csv phone.csv --output phone.json --device-name "My phone"
    zenopt latency predict cifar-params1m --device phone.json
"""

from __future__ import annotations

import sys
import time

import numpy as np
import onnxruntime

RUNS = 60


def main() -> None:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(sys.argv[1], settings, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    feed = {images.name: np.zeros(images.shape, dtype=np.float32)}
    times = []
    for run in range(RUNS + 3):
        # Processor time, and the fastest run: other programs may be running here. On a device of its own, take the
        # wall clock and the median.
        began = time.process_time()
        session.run(None, feed)
        if run >= 3:
            times.append(time.process_time() - began)
    print(f"{1000 * min(times):.4f} ms")


if __name__ == "__main__":
    main()
