"""Tests against real servers, each started by its test on a free loopback port."""
