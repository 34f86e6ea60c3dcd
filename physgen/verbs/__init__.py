"""The verbs, one module each: simulate, fit, sample, infer, validate, report and so on."""
