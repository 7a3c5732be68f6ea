"""The cases are run by test_experiment_cases: on their own they are no tests."""

collect_ignore_glob = ["*.py"]
