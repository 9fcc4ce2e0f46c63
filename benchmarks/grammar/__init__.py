"""What the grammar engine covers and what its masks cost, beside the engines that people come from.

    python -m benchmarks.grammar coverage [--sample N] [--failures]   MaskBench and the official JSON Schema suite
    python -m benchmarks.grammar speed [--sample N] [--engines ...]   time to first mask, time of a mask: cold, warm
    python -m benchmarks.grammar batch [--matchers N]                 the masks of a whole step, once all are known
    python -m benchmarks.grammar cases                                regexes and EBNF grammars of everyday use

Every question takes --tokenizer FOLDER (with tokenizer.json); without it the default model's is used.  Data are not
part of the repository (data.py says why): FORKTREE_MASKBENCH names MaskBench's folder of JSON files, or a .jsonl or
.jsonl.gz with one of them a line; FORKTREE_JSON_SCHEMA_SUITE a checkout of json-schema-org/JSON-Schema-Test-Suite.  A
question without its data says so and answers what it can.

Speed is measured in one process beside whatever else runs on the machine, so engines take turns input by input, all
walk the same tokens of the same texts, and only figures of one run may be compared.  llguidance and xgrammar take part
when they are installed; nothing else here needs them."""
