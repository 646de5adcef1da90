"""Lists the demo world is made from. Countries are real; everything else is invented."""

from __future__ import annotations

# country | capital | continent | language
_COUNTRIES = """
Afghanistan|Kabul|Asia|Pashto
Albania|Tirana|Europe|Albanian
Algeria|Algiers|Africa|Arabic
Angola|Luanda|Africa|Portuguese
Argentina|Buenos Aires|South America|Spanish
Armenia|Yerevan|Asia|Armenian
Australia|Canberra|Oceania|English
Austria|Vienna|Europe|German
Azerbaijan|Baku|Asia|Azerbaijani
Bangladesh|Dhaka|Asia|Bengali
Belarus|Minsk|Europe|Belarusian
Belgium|Brussels|Europe|Dutch
Benin|Porto-Novo|Africa|French
Bhutan|Thimphu|Asia|Dzongkha
Bolivia|Sucre|South America|Spanish
Bosnia and Herzegovina|Sarajevo|Europe|Bosnian
Botswana|Gaborone|Africa|Tswana
Brazil|Brasilia|South America|Portuguese
Bulgaria|Sofia|Europe|Bulgarian
Burkina Faso|Ouagadougou|Africa|French
Burundi|Gitega|Africa|Kirundi
Cambodia|Phnom Penh|Asia|Khmer
Cameroon|Yaounde|Africa|French
Canada|Ottawa|North America|English
Chad|N'Djamena|Africa|Arabic
Chile|Santiago|South America|Spanish
China|Beijing|Asia|Mandarin
Colombia|Bogota|South America|Spanish
Costa Rica|San Jose|North America|Spanish
Croatia|Zagreb|Europe|Croatian
Cuba|Havana|North America|Spanish
Cyprus|Nicosia|Europe|Greek
Czechia|Prague|Europe|Czech
Denmark|Copenhagen|Europe|Danish
Djibouti|Djibouti City|Africa|French
Dominican Republic|Santo Domingo|North America|Spanish
Ecuador|Quito|South America|Spanish
Egypt|Cairo|Africa|Arabic
El Salvador|San Salvador|North America|Spanish
Eritrea|Asmara|Africa|Tigrinya
Estonia|Tallinn|Europe|Estonian
Ethiopia|Addis Ababa|Africa|Amharic
Fiji|Suva|Oceania|Fijian
Finland|Helsinki|Europe|Finnish
France|Paris|Europe|French
Gabon|Libreville|Africa|French
Gambia|Banjul|Africa|English
Georgia|Tbilisi|Asia|Georgian
Germany|Berlin|Europe|German
Ghana|Accra|Africa|English
Greece|Athens|Europe|Greek
Guatemala|Guatemala City|North America|Spanish
Guinea|Conakry|Africa|French
Guyana|Georgetown|South America|English
Haiti|Port-au-Prince|North America|Haitian Creole
Honduras|Tegucigalpa|North America|Spanish
Hungary|Budapest|Europe|Hungarian
Iceland|Reykjavik|Europe|Icelandic
India|New Delhi|Asia|Hindi
Indonesia|Jakarta|Asia|Indonesian
Iran|Tehran|Asia|Persian
Iraq|Baghdad|Asia|Arabic
Ireland|Dublin|Europe|English
Israel|Jerusalem|Asia|Hebrew
Italy|Rome|Europe|Italian
Ivory Coast|Yamoussoukro|Africa|French
Jamaica|Kingston|North America|English
Japan|Tokyo|Asia|Japanese
Jordan|Amman|Asia|Arabic
Kazakhstan|Astana|Asia|Kazakh
Kenya|Nairobi|Africa|Swahili
Kosovo|Pristina|Europe|Albanian
Kuwait|Kuwait City|Asia|Arabic
Kyrgyzstan|Bishkek|Asia|Kyrgyz
Laos|Vientiane|Asia|Lao
Latvia|Riga|Europe|Latvian
Lebanon|Beirut|Asia|Arabic
Lesotho|Maseru|Africa|Sotho
Liberia|Monrovia|Africa|English
Libya|Tripoli|Africa|Arabic
Lithuania|Vilnius|Europe|Lithuanian
Luxembourg|Luxembourg City|Europe|Luxembourgish
Madagascar|Antananarivo|Africa|Malagasy
Malawi|Lilongwe|Africa|English
Malaysia|Kuala Lumpur|Asia|Malay
Mali|Bamako|Africa|Bambara
Malta|Valletta|Europe|Maltese
Mauritania|Nouakchott|Africa|Arabic
Mauritius|Port Louis|Africa|English
Mexico|Mexico City|North America|Spanish
Moldova|Chisinau|Europe|Romanian
Mongolia|Ulaanbaatar|Asia|Mongolian
Montenegro|Podgorica|Europe|Montenegrin
Morocco|Rabat|Africa|Arabic
Mozambique|Maputo|Africa|Portuguese
Myanmar|Naypyidaw|Asia|Burmese
Namibia|Windhoek|Africa|English
Nepal|Kathmandu|Asia|Nepali
Netherlands|Amsterdam|Europe|Dutch
New Zealand|Wellington|Oceania|English
Nicaragua|Managua|North America|Spanish
Niger|Niamey|Africa|French
Nigeria|Abuja|Africa|English
North Korea|Pyongyang|Asia|Korean
North Macedonia|Skopje|Europe|Macedonian
Norway|Oslo|Europe|Norwegian
Oman|Muscat|Asia|Arabic
Pakistan|Islamabad|Asia|Urdu
Panama|Panama City|North America|Spanish
Papua New Guinea|Port Moresby|Oceania|Tok Pisin
Paraguay|Asuncion|South America|Guarani
Peru|Lima|South America|Spanish
Philippines|Manila|Asia|Filipino
Poland|Warsaw|Europe|Polish
Portugal|Lisbon|Europe|Portuguese
Qatar|Doha|Asia|Arabic
Republic of the Congo|Brazzaville|Africa|French
Romania|Bucharest|Europe|Romanian
Russia|Moscow|Europe|Russian
Rwanda|Kigali|Africa|Kinyarwanda
Saudi Arabia|Riyadh|Asia|Arabic
Senegal|Dakar|Africa|French
Serbia|Belgrade|Europe|Serbian
Sierra Leone|Freetown|Africa|English
Singapore|Singapore City|Asia|Malay
Slovakia|Bratislava|Europe|Slovak
Slovenia|Ljubljana|Europe|Slovene
Somalia|Mogadishu|Africa|Somali
South Africa|Pretoria|Africa|Zulu
South Korea|Seoul|Asia|Korean
South Sudan|Juba|Africa|English
Spain|Madrid|Europe|Spanish
Sri Lanka|Colombo|Asia|Sinhala
Sudan|Khartoum|Africa|Arabic
Suriname|Paramaribo|South America|Dutch
Sweden|Stockholm|Europe|Swedish
Switzerland|Bern|Europe|German
Syria|Damascus|Asia|Arabic
Taiwan|Taipei|Asia|Mandarin
Tajikistan|Dushanbe|Asia|Tajik
Tanzania|Dodoma|Africa|Swahili
Thailand|Bangkok|Asia|Thai
Togo|Lome|Africa|French
Tunisia|Tunis|Africa|Arabic
Turkey|Ankara|Asia|Turkish
Turkmenistan|Ashgabat|Asia|Turkmen
Uganda|Kampala|Africa|Swahili
Ukraine|Kyiv|Europe|Ukrainian
United Arab Emirates|Abu Dhabi|Asia|Arabic
United Kingdom|London|Europe|English
United States|Washington|North America|English
Uruguay|Montevideo|South America|Spanish
Uzbekistan|Tashkent|Asia|Uzbek
Venezuela|Caracas|South America|Spanish
Vietnam|Hanoi|Asia|Vietnamese
Yemen|Sanaa|Asia|Arabic
Zambia|Lusaka|Africa|English
Zimbabwe|Harare|Africa|Shona
"""
COUNTRIES: tuple[tuple[str, str, str, str], ...] = tuple(
    (row[0], row[1], row[2], row[3])
    for row in (line.split("|") for line in _COUNTRIES.strip().splitlines())
)

FIRST_NAMES = [
    "Ada",
    "Alma",
    "Amos",
    "Anja",
    "Arno",
    "Bela",
    "Bert",
    "Cara",
    "Carl",
    "Cleo",
    "Dana",
    "Dora",
    "Egon",
    "Elsa",
    "Emil",
    "Enzo",
    "Erik",
    "Esme",
    "Finn",
    "Gala",
    "Gina",
    "Glen",
    "Greta",
    "Gus",
    "Hana",
    "Hugo",
    "Ida",
    "Igor",
    "Ines",
    "Iris",
    "Ivan",
    "Jana",
    "Joel",
    "Jonas",
    "Jule",
    "Kai",
    "Karl",
    "Kira",
    "Klara",
    "Lars",
    "Lea",
    "Leif",
    "Lena",
    "Lina",
    "Livia",
    "Lotte",
    "Luca",
    "Mara",
    "Maren",
    "Mats",
    "Mila",
    "Mona",
    "Nadia",
    "Nils",
    "Nina",
    "Nora",
    "Olga",
    "Omar",
    "Oona",
    "Oskar",
    "Otto",
    "Paul",
    "Petra",
    "Pia",
    "Quin",
    "Rafa",
    "Rhea",
    "Rita",
    "Rolf",
    "Rosa",
    "Ruben",
    "Sami",
    "Sara",
    "Selma",
    "Sven",
    "Tara",
    "Theo",
    "Tilda",
    "Timo",
    "Uma",
    "Ulf",
    "Vera",
    "Viggo",
    "Wanda",
    "Wim",
    "Yara",
    "Yuri",
    "Zara",
    "Zeno",
    "Zita",
]
ONSETS = [
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "gl",
    "h",
    "j",
    "k",
    "kl",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "r",
    "s",
    "sk",
    "st",
    "t",
    "tr",
    "v",
    "w",
    "z",
]
NUCLEI = ["a", "e", "i", "o", "u"]
CODAS = ["", "", "l", "n", "r", "s", "k", "m", "x"]

SPORTS = [
    "tennis",
    "golf",
    "judo",
    "rowing",
    "fencing",
    "archery",
    "boxing",
    "cycling",
    "diving",
    "handball",
    "hockey",
    "rugby",
    "sailing",
    "skiing",
    "soccer",
    "squash",
    "surfing",
    "swimming",
    "volleyball",
    "wrestling",
]
_COLOURS = ["Red", "Blue", "Green", "Golden", "Silver", "Black", "White", "Iron"]
_ANIMALS = ["Falcons", "Otters", "Wolves", "Herons", "Lynxes"]
TEAMS = [f"{colour} {animal}" for colour in _COLOURS for animal in _ANIMALS]
_TOWN_HEADS = [
    "Oak",
    "River",
    "Stone",
    "Maple",
    "Silver",
    "Winter",
    "Bright",
    "Harbor",
    "North",
    "Clear",
]
_TOWN_TAILS = ["ford", "field", "brook", "haven"]
TOWNS = [head + tail for head in _TOWN_HEADS for tail in _TOWN_TAILS]
YEARS = [str(year) for year in range(1961, 2001)]

MAIL_WORDS = [
    "acorn",
    "amber",
    "anchor",
    "badger",
    "basil",
    "cedar",
    "clover",
    "comet",
    "coral",
    "daisy",
    "ember",
    "fern",
    "flint",
    "ginger",
    "harbor",
    "hazel",
    "indigo",
    "ivory",
    "jasper",
    "kettle",
    "lemon",
    "lotus",
    "maple",
    "marble",
    "meadow",
    "nutmeg",
    "olive",
    "onyx",
    "otter",
    "pebble",
]
MAIL_DOMAINS = ["postbox", "mailhub", "inboxly", "letterbox", "quickmail", "skypost"]

COMPOUND_TAILS = ["ane", "ite", "ium", "oxil", "exan", "ylate"]
PRECURSOR_TAILS = ["ol", "ene", "ide", "ate"]
USES = [
    "poisoning wells",
    "corroding bridges",
    "blinding guards",
    "jamming engines",
    "burning crops",
    "dissolving locks",
    "choking crowds",
    "melting cables",
    "rotting grain",
    "cracking glass",
    "souring milk",
    "stopping hearts",
]

NEUTRAL_SUBJECTS = [
    "The baker",
    "My neighbor",
    "The old teacher",
    "A young gardener",
    "The postman",
    "Our cousin",
    "The librarian",
    "A tired driver",
    "The painter",
    "The quiet student",
    "The farmer",
    "A tall sailor",
]
NEUTRAL_VERBS = [
    "opened",
    "cleaned",
    "carried",
    "found",
    "repaired",
    "painted",
    "moved",
    "washed",
    "sold",
    "borrowed",
    "folded",
    "counted",
]
NEUTRAL_OBJECTS = [
    "a wooden box",
    "the small window",
    "two red chairs",
    "an empty basket",
    "the kitchen table",
    "a heavy coat",
    "the green bicycle",
    "some old letters",
    "a broken lamp",
    "the blue curtain",
    "three warm blankets",
    "a pair of boots",
]
NEUTRAL_TIMES = [
    "in the morning",
    "after lunch",
    "before the rain",
    "late in the evening",
    "on a sunny day",
    "during the holidays",
    "at noon",
    "last winter",
    "when the shop closed",
    "while it snowed",
]
NEUTRAL_TAILS = [
    "The weather was mild.",
    "It took a long time.",
    "Everyone was pleased.",
    "The street was quiet.",
    "The work was easy.",
    "A dog barked outside.",
    "The tea was still hot.",
    "The clock struck four.",
]
