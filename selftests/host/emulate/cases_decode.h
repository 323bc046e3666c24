static const struct length_case length_cases[] = { { "nop", M64, "90", 1 } };
