"""One way to run something: jobs, reports, export, `doctor`."""
