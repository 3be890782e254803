"""Which folders make up the package; everything else is in setup.cfg.

``zenopt/train`` and ``zenopt/studies`` are links to the folders of those names beside ``zenopt``. Git for Windows makes
text files of links unless it is told otherwise, so the folders are named here, and wheels, source distributions and
editable installs do not need the links.
"""

from setuptools import find_packages, setup

LINKED = {"zenopt.train": "train", "zenopt.studies": "studies"}

setup(
    packages=[
        *find_packages(
            include=["zenopt", "zenopt.*"], exclude=[name for own in LINKED for name in (own, f"{own}.*")]
        ),
        *LINKED,
    ],
    package_dir=LINKED,
    package_data={
        "zenopt": ["py.typed", "latency/devices/*.json", "latency/libraries/*.json", "report/assets/*"],
        "zenopt.train": ["recipes/*.yaml"],
        "zenopt.supernet": ["schedules/*.yaml"],
        "zenopt.studies": ["*.yaml"],
    },
)
