#!/bin/sh
# Makes the certificates beside it, which the tests use: for a hundred years, so that they need not
# be made again. Nobody trusts them but the tests.
set -eu
cd "$(dirname "$0")"

ca() { # file, name
    openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1.key"
    openssl req -x509 -new -key "$1.key" -subj "/CN=$2" -days 36500 -out "$1.pem" \
        -addext 'basicConstraints=critical,CA:TRUE' -addext 'keyUsage=critical,keyCertSign,cRLSign'
}

leaf() { # file, signed by, usage, names, further arguments of `openssl x509`
    file=$1 ca=$2 usage=$3 names=$4
    shift 4
    openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$file.key"
    openssl req -new -key "$file.key" -subj "/CN=$file" -out "$file.csr"
    printf 'basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=%s\nsubjectAltName=%s\n' \
        "$usage" "$names" > "$file.ext"
    openssl x509 -req -in "$file.csr" -CA "$ca.pem" -CAkey "$ca.key" -set_serial "0x$(openssl rand -hex 8)" \
        -extfile "$file.ext" -out "$file.pem" "$@"
    rm "$file.csr" "$file.ext"
}

ca ca 'evloop test CA'
ca other-ca 'evloop other test CA'
leaf server ca serverAuth 'DNS:localhost,IP:127.0.0.1,IP:::1' -days 36500
leaf second ca serverAuth 'DNS:localhost,IP:127.0.0.1,IP:::1' -days 36500
leaf elsewhere ca serverAuth 'DNS:elsewhere.example' -days 36500
leaf untrusted other-ca serverAuth 'DNS:localhost,IP:127.0.0.1,IP:::1' -days 36500
leaf client ca clientAuth 'DNS:client' -days 36500
leaf stranger other-ca clientAuth 'DNS:stranger' -days 36500
# It was good for a day, in the year 2001: a date that only `openssl ca` can write.
leaf expired ca serverAuth 'DNS:localhost,IP:127.0.0.1,IP:::1' -days 1
openssl req -new -key expired.key -subj /CN=expired -out expired.csr
: > index.txt
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\nnew_certs_dir=.\nrand_serial=yes\ndefault_md=sha256\npolicy=p\nx509_extensions=e\n[p]\ncommonName=supplied\n[e]\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n' > ca.cnf
openssl ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -notext -outdir . \
    -startdate 20010101000000Z -enddate 20010102000000Z -in expired.csr -out expired.pem
rm -f expired.csr index.txt* ca.cnf [0-9A-F]*.pem
