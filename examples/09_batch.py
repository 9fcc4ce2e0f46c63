"""A hundred programs at once: each asks for the continent of one country, all share one few-shot prefix."""

import time

import forktree as ft

COUNTRIES = {
    " Africa": """Algeria Angola Benin Botswana Burundi Cameroon Chad Egypt Ethiopia Gabon Ghana Kenya Lesotho Liberia
        Libya Malawi Mali Morocco Mozambique Namibia Niger Rwanda Senegal Somalia Sudan Tanzania Togo Uganda Zambia""",
    " America": """Belize Bolivia Brazil Canada Chile Colombia Cuba Ecuador Guatemala Guyana Haiti Honduras Jamaica
        Mexico Nicaragua Panama Paraguay Peru Suriname Uruguay Venezuela""",
    " Asia": """Afghanistan Bangladesh Bhutan Cambodia India Indonesia Iran Iraq Israel Japan Jordan Kuwait Laos Lebanon
        Malaysia Mongolia Nepal Oman Pakistan Qatar Singapore Syria Thailand Vietnam Yemen""",
    " Europe": """Albania Austria Belgium Bulgaria Croatia Denmark Estonia Finland France Germany Greece Hungary Iceland
        Ireland Latvia Lithuania Luxembourg Malta Moldova Norway Poland Portugal Romania Sweden Switzerland""",
}
EXAMPLES = "".join(
    f"Country: {country}\nContinent: {continent}\n\n"
    for country, continent in [("Nigeria", "Africa"), ("China", "Asia"), ("Italy", "Europe"), ("Argentina", "America")]
)


@ft.function
def locate(s, country):
    s += f"{EXAMPLES}Country: {country}\nContinent:" + ft.select("continent", list(COUNTRIES))


def main():
    truth = {country: continent for continent, names in COUNTRIES.items() for country in names.split()}
    with ft.Runtime() as runtime:
        start = time.perf_counter()
        states = locate.run_batch([{"country": country} for country in truth], backend=runtime, progress_bar=True)
        seconds = time.perf_counter() - start
        right = sum(state["continent"] == truth[country] for country, state in zip(truth, states))
        print(f"{right} of {len(states)} right, {seconds:.1f} s")
        stats = runtime.get_server_info()
        print(f"{stats['prompt_tokens']:,} prompt tokens, {stats['computed_prompt_tokens']:,} computed")


if __name__ == "__main__":
    main()
