package bench;

/** What a rule found. `subject` tells findings of one rule and session apart. */
record Finding(String rule, int score, String subject, String observed, String expected) {}
