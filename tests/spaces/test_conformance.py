"""Every family of zenopt's own keeps what is promised of families."""

from __future__ import annotations

from zenopt.testing import FamilyTests

TINY = {
    "stage_strides": [1, 2],
    "stem_stride": 1,
    "slots": 2,
    "max_depth": 2,
    "max_width": 32,
    "max_bottleneck": 16,
}


class TestSuperRes(FamilyTests):
    name = "superres"
    options = {
        **TINY,
        "max_head": 64,
        "initial": "SuperConvK3BNRELU(3,8,1,1)SuperResK3K3(8,16,1,8,1)SuperResK3K3(16,16,2,8,1)"
        "SuperConvK1BNRELU(16,32,1,1)",
    }
    resolution, num_classes = 16, 4


class TestMobile(FamilyTests):
    name = "mobile"
    options = {
        **TINY,
        "head_width": 32,
        "initial": "SuperConvK3BNRELU(3,8,1,1)SuperResIDWE1K3(8,16,1,8,1)SuperResIDWE2K5(16,16,2,8,1)"
        "SuperConvK1BNRELU(16,32,1,1)",
    }
    resolution, num_classes = 16, 4


class TestNasBench201(FamilyTests):
    name = "nasbench201"
    resolution, num_classes = 16, 4


class TestSmallNasBench201(FamilyTests):
    name, options = "nasbench201", {"channels": 8, "cells": 1}
    resolution, num_classes = 16, 4
